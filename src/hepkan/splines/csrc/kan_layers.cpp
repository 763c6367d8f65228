// Kolmogorov-Arnold layers, one after another, y_o = c_o + sum_i [ base(x_i) W_io + sum_m B_m(x_i) C_imo ], forward and
// backward, behind a C ABI.
//
// The file is compiled several times, once per instruction set; the vector width follows the compiler's flags. Work goes
// in tiles of events, through all layers: what lies between layers never leaves the cache, but for the inputs of each
// layer, which backward needs. Inside a tile a layer's inputs are stored one input after another, its outputs one event
// after another. Forward splits tiles over threads. Backward splits fixed parts of the events, whose sums are added in
// the order of the parts: results are the same bits for any number of threads.
#include <algorithm>
#include <cstdlib>
#include <limits>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "edge_rows.hpp"
#include "shared.hpp"
#include "single.hpp"

#define API extern "C" __attribute__((visibility("default")))

namespace {

constexpr int64_t MOST_PARTS = 16, LEAST_PART = 2048, MOST_PART = 8192;  // events, multiples of TILE

template <class T>
class Buffer {
public:
    explicit Buffer(int64_t size) {
        const size_t bytes = (static_cast<size_t>(std::max<int64_t>(size, 1)) * sizeof(T) + 63) / 64 * 64;
        data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
        if (data_ == nullptr) throw std::bad_alloc();
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }
    operator T*() { return data_; }
    operator const T*() const { return data_; }

private:
    T* data_;
};

// Runs work(begin, end) over contiguous parts of [0, items). Threads live only for the call, so a fork is harmless.
template <class Work>
int split(int64_t items, int64_t threads, const Work& work) {
    threads = std::max<int64_t>(1, std::min(threads, items));
    std::vector<int> failed(static_cast<size_t>(threads), 0);
    const auto part = [&](int64_t n) {
        try {
            work(items * n / threads, items * (n + 1) / threads);
        } catch (const std::bad_alloc&) {
            failed[static_cast<size_t>(n)] = 1;
        }
    };
    std::vector<std::thread> helpers;
    helpers.reserve(static_cast<size_t>(threads));
    for (int64_t n = 1; n < threads; ++n) {
        try {
            helpers.emplace_back(part, n);
        } catch (const std::system_error&) {
            part(n);
        }
    }
    part(0);
    for (auto& helper : helpers) helper.join();
    return *std::max_element(failed.begin(), failed.end());
}

// Strided view of a matrix.
template <class T>
struct Matrix {
    const T* data;
    int64_t row, column;
    T at(int64_t n, int64_t m) const { return data[n * row + m * column]; }
};

// What the caller says of a layer; every field has eight bytes. Pointers but the first two may be null. With shapes,
// (inputs, intervals + degree, rank), the edges of an input share functions and coef is (inputs, rank, outputs).
template <class T>
struct Layer {
    const T *tables, *coef, *base, *bias, *shapes;
    T *dcoef, *dbase, *dbias, *dshapes;
    int64_t inputs, outputs, intervals, rank;
};

int64_t whole(int64_t n, int64_t unit) { return (n + unit - 1) / unit * unit; }

// x of a tile, one row of TILE numbers per input; numbers beyond `events` are 0.
template <class T>
void inputs_of_tile(const Matrix<T>& x, int64_t event, int events, int64_t inputs, T* columns) {
    constexpr int W = WIDTH<T>;
    if (x.column != 1) {
        for (int64_t i = 0; i < inputs; ++i)
            for (int e = 0; e < TILE; ++e) columns[i * TILE + e] = e < events ? x.at(event + e, i) : T(0);
        return;
    }
    Wide<T> rows[W];
    for (int e = 0; e < TILE; e += W)
        for (int64_t i = 0; i < inputs; i += W) {
            for (int n = 0; n < W; ++n)
                rows[n] = e + n < events ? load_part(x.data + (event + e + n) * x.row + i, inputs - i) : Wide<T>{};
            transpose_square<Wide<T>, WideInt<T>, W>(rows);
            for (int64_t n = 0; n < std::min<int64_t>(W, inputs - i); ++n) store(columns + (i + n) * TILE + e, rows[n]);
        }
}

template <class T, int K>
class Stack {
    static constexpr int W = WIDTH<T>;

public:
    Stack(const Layer<T>* layers, int64_t number, int64_t events, int base, int64_t threads)
        : layers_(layers), number_(number), events_(events), base_(base), threads_(threads) {
        for (int64_t l = 0; l < number; ++l) {
            layouts_.emplace_back(layers[l].outputs, splines(layers[l]));
            most_inputs_ = std::max(most_inputs_, whole(layers[l].inputs, W));
            most_outputs_ = std::max(most_outputs_, layouts_[at(l)].padded());
            weights_at_.push_back(weights_);
            weights_ += layers[l].inputs * layouts_[at(l)].rows * layouts_[at(l)].padded();
            biases_at_.push_back(biases_);
            biases_ += layouts_[at(l)].padded();
            functions_at_.push_back(functions_);
            if (layers[l].shapes) {
                functions_ += layers[l].inputs * Functions<T, K>::numbers(layers[l].intervals, layers[l].rank);
                features_ = std::max(features_, layers[l].inputs * layouts_[at(l)].rows);
                most_shared_ = std::max(most_shared_, layers[l].inputs);
            }
            hidden_at_.push_back(hidden_);
            if (l > 0) hidden_ += layers[l].inputs * TILE;
        }
    }

    // hidden: room for the inputs of all layers but the first, whole tiles, or null.
    int forward(const Matrix<T>& x, T* hidden, T* y) const {
        Buffer<T> weights(weights_), functions(functions_);
        pack_all(weights, functions);
        return split(whole(events_, TILE) / TILE, threads_, [&](int64_t begin, int64_t end) {
            Buffer<T> sums(TILE * most_outputs_), room(TILE * most_inputs_), features(TILE * features_);
            for (int64_t tile = begin; tile < end; ++tile)
                forward_tile(x, tile, weights, functions, sums, room, features, hidden, y);
        });
    }

    int backward(const Matrix<T>& x, const T* hidden, const Matrix<T>& dy, T* dx, bool parameters) const {
        const int64_t part = std::clamp(whole((events_ + MOST_PARTS - 1) / MOST_PARTS, TILE), LEAST_PART, MOST_PART);
        const int64_t parts = std::max<int64_t>(1, (events_ + part - 1) / part), size = all_moments();
        Buffer<T> weights(weights_), functions(functions_), moments(parameters ? parts * size : 0);
        pack_all(weights, functions);
        const int failed = split(parts, threads_, [&](int64_t begin, int64_t end) {
            Buffer<T> gradients(TILE * most_outputs_), room(TILE * most_inputs_), sums(TILE * W);
            Buffer<T> columns(TILE * whole(layers_[0].inputs, W));
            SharedRoom shared(*this);
            for (int64_t p = begin; p < end; ++p) {
                T* mine = parameters ? moments + p * size : nullptr;
                if (parameters) std::fill_n(mine, size, T(0));
                for (int64_t event = p * part; event < std::min((p + 1) * part, events_); event += TILE)
                    backward_tile(x, hidden, dy, event, weights, functions, gradients, room, sums, columns, shared, dx, mine);
            }
        });
        return failed ? failed : parameters ? collect(parts, moments) : 0;
    }

private:
    const Layer<T>* layers_;
    int64_t number_, events_;
    int base_;
    int64_t threads_;
    std::vector<Layout<T>> layouts_;
    std::vector<int64_t> weights_at_, biases_at_, functions_at_, hidden_at_;  // where a layer's numbers begin
    int64_t weights_ = 0, biases_ = 0, functions_ = 0, hidden_ = 0, most_inputs_ = 0, most_outputs_ = 0;
    int64_t features_ = 0, most_shared_ = 0;  // of layers with shared functions

    // What backward needs for a tile of a layer with shared functions.
    struct SharedRoom {
        Buffer<Places<T>> places;
        Buffer<T> features, slopes, upstream, turned;
        explicit SharedRoom(const Stack& s)
            : places(s.most_shared_), features(TILE * s.features_), slopes(TILE * s.features_),
              upstream(TILE * s.features_), turned(s.features_ > 0 ? TILE * MOST_VECTORS * W : 0) {}
    };

    static size_t at(int64_t l) { return static_cast<size_t>(l); }
    static int64_t splines(const Layer<T>& q) { return q.shapes ? q.rank : q.intervals + K; }
    // The sums over events that become gradients: of weights, then of biases, then of shared functions.
    int64_t all_moments() const { return weights_ + biases_ + functions_; }
    int64_t function_place(int64_t l, int64_t input) const {
        return functions_at_[at(l)] + input * Functions<T, K>::numbers(layers_[l].intervals, layers_[l].rank);
    }
    Functions<T, K> functions_of(int64_t l, int64_t input) const {
        return {table(l, input), intervals(l), base_, static_cast<int>(layers_[l].rank)};
    }
    int intervals(int64_t l) const { return static_cast<int>(layers_[l].intervals); }
    const T* table(int64_t l, int64_t input) const {
        return layers_[l].tables + static_cast<size_t>(input) * hepkan::table_numbers(intervals(l), K);
    }
    // Whether a layer goes along the events, see single.hpp; then `act` gets its inputs one by one.
    bool single(int64_t l) const {
        if constexpr (sizeof(T) == sizeof(float))
            return l + 1 == number_ && !layers_[l].shapes && Single<K>::serves(layers_[l].outputs, layers_[l].intervals);
        return false;
    }
    template <class Act>
    void each_single(int64_t l, const Act& act) const {
        if constexpr (sizeof(T) == sizeof(float))
            for (int64_t input = 0; input < layers_[l].inputs; ++input)
                act(input, Single<K>{table(l, input), intervals(l), base_}, place(l, 0, input, W));
    }

    // Parameters of every layer: per chunk, per input, `rows` rows; and the polynomials of shared functions.
    void pack_all(T* weights, T* functions) const {
        for (int64_t l = 0; l < number_; ++l) {
            const Layer<T>& q = layers_[l];
            if (single(l)) {
                each_single(l, [&](int64_t input, const auto& edge, int64_t here) {
                    edge.pack(q.coef + input * (q.intervals + K), q.base ? q.base + input : nullptr, weights + here);
                });
                continue;
            }
            for (int64_t input = 0; input < q.inputs; ++input) {
                layouts_[at(l)].each([&](int64_t, int64_t start, int64_t outputs, int64_t size) {
                    pack(q.coef + input * splines(q) * q.outputs + start,
                         q.base ? q.base + input * q.outputs + start : nullptr, splines(q), outputs, size, q.outputs,
                         weights + place(l, start, input, size));
                });
                if (q.shapes)
                    functions_of(l, input).pack(q.shapes + input * (q.intervals + K) * q.rank,
                                                functions + function_place(l, input));
            }
        }
    }

    int64_t place(int64_t l, int64_t start, int64_t input, int64_t size) const {
        return weights_at_[at(l)] + (start * layers_[l].inputs + input * size) * layouts_[at(l)].rows;
    }

    void forward_tile(const Matrix<T>& x, int64_t tile, const T* weights, const T* functions, T* sums, T* room, T* features,
                      T* hidden, T* y) const {
        const int64_t event = tile * TILE;
        const int events = static_cast<int>(std::min<int64_t>(TILE, events_ - event));
        inputs_of_tile(x, event, events, layers_[0].inputs, room);
        Survey<T, K> s;
        const T* from = room;
        for (int64_t l = 0; l < number_; ++l) {
            const Layer<T>& q = layers_[l];
            if (single(l)) {
                std::fill_n(sums, TILE, q.bias ? q.bias[0] : T(0));
                each_single(l, [&](int64_t input, const auto& edge, int64_t here) {
                    edge.forward(from + input * TILE, events, weights + here, sums);
                });
                std::copy_n(sums, events, y + event);
                return;
            }
            layouts_[at(l)].each([&](int64_t, int64_t start, int64_t outputs, int64_t size) {
                T* to = sums + start * TILE;
                for (int64_t o = 0; o < size; ++o) to[o] = q.bias && o < outputs ? q.bias[start + o] : T(0);
                for (int e = 1; e < TILE; ++e) std::copy_n(to, size, to + e * size);
            });
            if (q.shapes) forward_shared(l, from, weights, functions, features, sums);
            for (int64_t input = q.shapes ? q.inputs : 0; input < q.inputs; ++input) {
                survey<T, K, false>(from + input * TILE, events, table(l, input), intervals(l), base_, s);
                layouts_[at(l)].each([&](int64_t count, int64_t start, int64_t, int64_t size) {
                    with_count(count, [&](auto n) {
                        Rows<T, K, n>::forward(s, events, weights + place(l, start, input, size), sums + start * TILE);
                    });
                });
            }
            T* next = hidden && l + 1 < number_ ? hidden + tile * hidden_ + hidden_at_[at(l + 1)] : room;
            layouts_[at(l)].each([&](int64_t, int64_t start, int64_t outputs, int64_t size) {
                if (l + 1 == number_)
                    for (int e = 0; e < events; ++e)
                        std::copy_n(sums + start * TILE + e * size, outputs, y + (event + e) * q.outputs + start);
                else
                    for (int64_t o = 0; o < outputs; o += W)
                        for (int e = 0; e < TILE; e += W)
                            transpose_square(sums + start * TILE + e * size + o, size, next + (start + o) * TILE + e, TILE,
                                             outputs - o);
            });
            from = next;
        }
    }

    void forward_shared(int64_t l, const T* from, const T* weights, const T* functions, T* features, T* sums) const {
        const int64_t inputs = layers_[l].inputs, rows = layouts_[at(l)].rows;
        Places<T> places;
        for (int64_t input = 0; input < inputs; ++input) {
            const Functions<T, K> those = functions_of(l, input);
            those.locate(from + input * TILE, places);
            those.template evaluate<false>(from + input * TILE, places, functions + function_place(l, input),
                                           features + input * rows * TILE, nullptr);
        }
        layouts_[at(l)].each([&](int64_t, int64_t start, int64_t, int64_t size) {
            multiply<T>({features, 1, TILE}, {weights + place(l, start, 0, size), size}, {sums + start * TILE, size}, TILE,
                        inputs * rows, size);
        });
    }

    // As the loop over inputs of backward_tile; room gets the gradient of the layer's inputs.
    void backward_shared(int64_t l, const T* from, int events, const T* weights, const T* functions, const T* gradients,
                         SharedRoom& shared, T* room, T* moments) const {
        const int64_t inputs = layers_[l].inputs, rows = layouts_[at(l)].rows;
        for (int64_t input = 0; input < inputs; ++input) {
            const Functions<T, K> those = functions_of(l, input);
            const int64_t first = input * rows * TILE;
            those.locate(from + input * TILE, shared.places[input]);
            those.template evaluate<true>(from + input * TILE, shared.places[input], functions + function_place(l, input),
                                          shared.features + first, shared.slopes + first);
        }
        std::fill_n(static_cast<T*>(shared.upstream), inputs * rows * TILE, T(0));
        layouts_[at(l)].each([&](int64_t, int64_t start, int64_t outputs, int64_t size) {
            const T* upstream = gradients + start * TILE;
            const int64_t here = place(l, start, 0, size);
            if (moments)
                multiply<T>({shared.features, TILE, 1}, {upstream, size}, {moments + here, size}, inputs * rows, events, size);
            for (int64_t o = 0; o < size; o += W)
                for (int e = 0; e < TILE; e += W)
                    transpose_square(upstream + e * size + o, size, shared.turned + o * TILE + e, TILE, W);
            multiply<T>({weights + here, size, 1}, {shared.turned, TILE}, {shared.upstream, TILE}, inputs * rows, outputs,
                        TILE);
        });
        for (int64_t input = 0; input < inputs; ++input) {
            const Functions<T, K> those = functions_of(l, input);
            const T* upstream = shared.upstream + input * rows * TILE;
            if (moments)
                those.add_moments(shared.places[input], events, upstream,
                                  moments + weights_ + biases_ + function_place(l, input));
            those.gradient(upstream, shared.slopes + input * rows * TILE, room + input * TILE);
        }
    }

    void backward_tile(const Matrix<T>& x, const T* hidden, const Matrix<T>& dy, int64_t event, const T* weights,
                       const T* functions, T* gradients, T* room, T* sums, T* columns, SharedRoom& shared, T* dx,
                       T* moments) const {
        const int events = static_cast<int>(std::min<int64_t>(TILE, events_ - event));
        inputs_of_tile(x, event, events, layers_[0].inputs, columns);
        T lane[TILE] = {};
        if (single(number_ - 1))
            for (int e = 0; e < events; ++e) lane[e] = dy.at(event + e, 0);
        layouts_[at(number_ - 1)].each([&](int64_t, int64_t start, int64_t outputs, int64_t size) {
            for (int e = 0; e < events; ++e)
                for (int64_t o = 0; o < size; ++o)
                    gradients[start * TILE + e * size + o] = o < outputs ? dy.at(event + e, start + o) : T(0);
        });
        Survey<T, K> s;
        for (int64_t l = number_ - 1; l >= 0; --l) {
            const Layer<T>& q = layers_[l];
            const bool slopes = l > 0 || dx != nullptr;
            const T* from = l > 0 ? hidden + event / TILE * hidden_ + hidden_at_[at(l)] : columns;
            if (moments) add_biases(l, events, gradients, moments + weights_ + biases_at_[at(l)]);
            if (!slopes && !moments) return;
            if (single(l))
                each_single(l, [&](int64_t input, const auto& edge, int64_t here) {
                    edge.backward(from + input * TILE, events, weights + here, lane, slopes ? room + input * TILE : nullptr,
                                  moments ? moments + here : nullptr);
                });
            if (q.shapes) backward_shared(l, from, events, weights, functions, gradients, shared, room, moments);
            for (int64_t input = single(l) || q.shapes ? q.inputs : 0; input < q.inputs; ++input) {
                if (slopes) survey<T, K, true>(from + input * TILE, events, table(l, input), intervals(l), base_, s);
                else survey<T, K, false>(from + input * TILE, events, table(l, input), intervals(l), base_, s);
                layouts_[at(l)].each([&](int64_t count, int64_t start, int64_t, int64_t size) {
                    const int64_t here = place(l, start, input, size);
                    const T* upstream = gradients + start * TILE;
                    with_count(count, [&](auto n) {
                        using R = Rows<T, K, n>;
                        if (slopes && start == 0) R::template slopes<true>(s, events, weights + here, upstream, sums);
                        if (slopes && start > 0) R::template slopes<false>(s, events, weights + here, upstream, sums);
                        if (moments) R::moments(s, events, upstream, moments + here);
                    });
                });
                for (int e = 0; slopes && e < TILE; e += W)
                    store(room + input * TILE + e,
                          lane_sums<Wide<T>, WideInt<T>, W>(reinterpret_cast<Wide<T>*>(sums + e * W)));
            }
            if (l == 0 && slopes) gradient_of_x(event, events, room, dx);
            if (l > 0) outputs_of_tile(l, room, gradients);
        }
    }

    void add_biases(int64_t l, int events, const T* gradients, T* sums) const {
        layouts_[at(l)].each([&](int64_t, int64_t start, int64_t, int64_t size) {
            for (int64_t o = 0; o < size; o += W) {
                Wide<T> sum = load<Wide<T>>(sums + start + o);
                for (int e = 0; e < events; ++e) sum += load<Wide<T>>(gradients + start * TILE + e * size + o);
                store(sums + start + o, sum);
            }
        });
    }

    // The gradient of layer l's inputs, one input after another, becomes that of the outputs of the layer before.
    void outputs_of_tile(int64_t l, T* room, T* gradients) const {
        const int64_t inputs = layers_[l].inputs;
        std::fill_n(room + inputs * TILE, (whole(inputs, W) - inputs) * TILE, T(0));
        layouts_[at(l - 1)].each([&](int64_t, int64_t start, int64_t, int64_t size) {
            for (int64_t o = 0; o < size; o += W)
                for (int e = 0; e < TILE; e += W)
                    transpose_square(room + (start + o) * TILE + e, TILE, gradients + start * TILE + e * size + o, size, W);
        });
    }

    void gradient_of_x(int64_t event, int events, const T* room, T* dx) const {
        const int64_t inputs = layers_[0].inputs;
        for (int e = 0; e < events; ++e)
            for (int64_t i = 0; i < inputs; ++i) dx[(event + e) * inputs + i] = room[i * TILE + e];
    }

    // Adds the parts up, in their order, and writes the gradients.
    int collect(int64_t parts, T* moments) const {
        const int64_t size = all_moments();
        for (int64_t l = 0; l < number_; ++l) {
            const Layer<T>& q = layers_[l];
            const Layout<T>& layout = layouts_[at(l)];
            const int failed = split(q.inputs, threads_, [&](int64_t begin, int64_t end) {
                for (int64_t input = begin; input < end; ++input) {
                    if (q.dshapes) {
                        T* sum = moments + weights_ + biases_ + function_place(l, input);
                        add_parts(sum, parts, size, Functions<T, K>::numbers(q.intervals, q.rank));
                        functions_of(l, input).unpack(sum, q.dshapes + input * (q.intervals + K) * q.rank);
                    }
                    layout.each([&](int64_t, int64_t start, int64_t outputs, int64_t width) {
                        T* sum = moments + place(l, start, input, width);
                        add_parts(sum, parts, size, layout.rows * width);
                        if constexpr (sizeof(T) == sizeof(float))
                            if (single(l))
                                return Single<K>{table(l, input), intervals(l), base_}.unpack(
                                    sum, q.dcoef + input * (q.intervals + K), q.dbase ? q.dbase + input : nullptr);
                        unpack(sum, splines(q), outputs, width, q.outputs, q.dcoef + input * splines(q) * q.outputs + start,
                               q.dbase ? q.dbase + input * q.outputs + start : nullptr);
                    });
                }
            });
            if (failed) return failed;
            if (q.dbias == nullptr) continue;
            T* sum = moments + weights_ + biases_at_[at(l)];
            add_parts(sum, parts, size, layout.padded());
            std::copy_n(sum, q.outputs, q.dbias);
        }
        return 0;
    }

    static void add_parts(T* sum, int64_t parts, int64_t stride, int64_t numbers) {
        for (int64_t p = 1; p < parts; ++p)
            for (int64_t n = 0; n < numbers; ++n) sum[n] += sum[p * stride + n];
    }
};

// Calls act with the degree as a compile-time number; 0 fine, 1 out of memory, 2 a degree that is not built.
template <class Act>
int with_degree(int64_t degree, const Act& act) {
    try {
        switch (degree) {
            case 1: return act(std::integral_constant<int, 1>{});
            case 2: return act(std::integral_constant<int, 2>{});
            case 3: return act(std::integral_constant<int, 3>{});
            case 4: return act(std::integral_constant<int, 4>{});
            case 5: return act(std::integral_constant<int, 5>{});
            default: return 2;
        }
    } catch (const std::bad_alloc&) {
        return 1;
    }
}

template <class T>
int fill_tables(const T* knots, int64_t inputs, int64_t intervals, int64_t degree, T* tables) {
    return with_degree(degree, [&](auto k) {
        constexpr int K = decltype(k)::value;
        const int g = static_cast<int>(intervals);
        for (int64_t i = 0; i < inputs; ++i)
            hepkan::fill_table<K>(knots + i * (intervals + 2 * K + 1), g, tables + i * hepkan::table_numbers(g, K));
        return 0;
    });
}

}  // namespace

#define DEFINE(T, SUFFIX)                                                                                                 \
    API int hepkan_tables_##SUFFIX(const T* knots, int64_t inputs, int64_t intervals, int64_t degree, T* tables) {        \
        return fill_tables<T>(knots, inputs, intervals, degree, tables);                                                  \
    }                                                                                                                     \
    API int hepkan_forward_##SUFFIX(const T* x, int64_t x_row, int64_t x_column, const void* layers, int64_t number,      \
                                    T* hidden, T* y, int64_t events, int64_t degree, int64_t base, int64_t threads) {     \
        return with_degree(degree, [&](auto k) {                                                                          \
            const Stack<T, decltype(k)::value> stack(static_cast<const Layer<T>*>(layers), number, events,                \
                                                     static_cast<int>(base), threads);                                    \
            return stack.forward({x, x_row, x_column}, hidden, y);                                                        \
        });                                                                                                               \
    }                                                                                                                     \
    API int hepkan_backward_##SUFFIX(const T* x, int64_t x_row, int64_t x_column, const void* layers, int64_t number,     \
                                     const T* hidden, const T* dy, int64_t dy_row, int64_t dy_column, T* dx,              \
                                     int64_t parameters, int64_t events, int64_t degree, int64_t base, int64_t threads) { \
        return with_degree(degree, [&](auto k) {                                                                          \
            const Stack<T, decltype(k)::value> stack(static_cast<const Layer<T>*>(layers), number, events,                \
                                                     static_cast<int>(base), threads);                                    \
            return stack.backward({x, x_row, x_column}, hidden, {dy, dy_row, dy_column}, dx, parameters != 0);            \
        });                                                                                                               \
    }

DEFINE(float, f32)
DEFINE(double, f64)

API int64_t hepkan_table_numbers(int64_t intervals, int64_t degree) {
    return static_cast<int64_t>(hepkan::table_numbers(static_cast<int>(intervals), static_cast<int>(degree)));
}

// Events of a tile: `hidden` has room for whole ones.
API int64_t hepkan_tile() { return TILE; }

// The best instruction set of this processor: 0 the compiler's default, 1 AVX2 with FMA, 2 AVX-512.
API int hepkan_instruction_set() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
        __builtin_cpu_supports("avx512bw"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}
