// The Kolmogorov-Arnold layer y_o = sum_i [ base(x_i) W_io + sum_m B_m(x_i) C_imo ], forward and backward, behind a C ABI.
//
// The file is compiled several times, once per instruction set; the vector width follows the compiler's flags. Per event
// and input only degree + 1 rows of C and one row of W are touched, so the cost does not grow with the grid. Work goes in
// tiles of events and blocks of inputs that stay in the first cache: `prepare` evaluates the functions of a block,
// `Rows` does the arithmetic along the outputs. Forward splits events over threads, backward splits inputs, so each sum is
// always taken in the same order: results are the same bits for any number of threads.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <vector>

#include "spline.hpp"

#if !defined(__GNUC__)
#error "needs the vector extensions of GCC or Clang"
#endif
#define API extern "C" __attribute__((visibility("default")))

namespace {

using std::int64_t;
using std::size_t;

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64, MOST_VECTORS = 4;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32, MOST_VECTORS = 4;
#else
constexpr int VECTOR_BYTES = 16, MOST_VECTORS = 4;
#endif
constexpr int TILE = 64;            // events
constexpr int BLOCK = 4;            // inputs
constexpr int LINEAR_SEARCH = 96;  // intervals up to which counting knots beats bisection

template <class T, int N>
struct Vector {
    typedef T type __attribute__((vector_size(N * sizeof(T))));
};
template <class T>
constexpr int WIDTH = VECTOR_BYTES / static_cast<int>(sizeof(T));
template <class T>
using Wide = typename Vector<T, WIDTH<T>>::type;

template <class V, class T>
inline V load(const T* p) {
    V v;
    std::memcpy(&v, p, sizeof(V));
    return v;
}
template <class V, class T>
inline void store(T* p, const V& v) {
    std::memcpy(p, &v, sizeof(V));
}

// Sums neighbouring halves until four lanes are left.
template <class T, int N>
inline typename Vector<T, 4>::type fold(const typename Vector<T, N>::type& v) {
    if constexpr (N == 4) {
        return v;
    } else if constexpr (N == 2) {
        return typename Vector<T, 4>::type{v[0], v[1], T(0), T(0)};
    } else {
        using Half = typename Vector<T, N / 2>::type;
        Half half[2];
        std::memcpy(half, &v, sizeof(v));
        return fold<T, N / 2>(half[0] + half[1]);
    }
}

// ---- exp and the base function -----------------------------------------------------------------------------------

template <class T>
struct Exp;
template <>
struct Exp<float> {
    using Int = std::int32_t;
    static constexpr int degree = 7, mantissa = 23;
    static constexpr float limit = 87.0f, magic = 12582912.0f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
};
template <>
struct Exp<double> {
    using Int = std::int64_t;
    static constexpr int degree = 13, mantissa = 52;
    static constexpr double limit = 708.0, magic = 6755399441055744.0, ln2_high = 6.93145751953125e-1,
                            ln2_low = 1.42860682030941723212e-6;
};
template <class T>
using WideInt = typename Vector<typename Exp<T>::Int, WIDTH<T>>::type;

// exp(z) for |z| <= limit: 2^n times the Taylor sum of the rest, |rest| <= ln(2) / 2.
template <class T>
inline Wide<T> exp_within(Wide<T> z) {
    using E = Exp<T>;
    const Wide<T> shifted = z * T(1.44269504088896340736) + E::magic;
    const Wide<T> n = shifted - E::magic;
    const Wide<T> rest = (z - n * E::ln2_high) - n * E::ln2_low;
    Wide<T> sum = rest * T(0) + T(1);
    for (int k = E::degree; k >= 1; --k) sum = sum * rest * T(1.0 / k) + T(1);
    return sum * (Wide<T>)((WideInt<T>)(n - n + T(1)) + (((WideInt<T>)shifted) << E::mantissa));
}

enum Base : int { NONE = 0, LINEAR = 1, SILU = 2 };

template <class T>
inline void base_function(int base, Wide<T> x, Wide<T>& value, Wide<T>& slope) {
    if (base == SILU) {
        constexpr T limit = Exp<T>::limit;
        const Wide<T> zero = Wide<T>{}, bound = zero + limit;
        Wide<T> z = x > bound ? bound : x;
        z = z < -bound ? -bound : z;
        const Wide<T> e = exp_within<T>(-z);
        Wide<T> s = T(1) / (T(1) + e);
        s = x < -bound ? zero : s;
        const Wide<T> rest = x > bound ? zero : e * s;  // 1 - s without cancellation
        value = x * s;
        slope = s * (T(1) + x * rest);
    } else {
        value = base == LINEAR ? x : x * T(0);
        slope = base == LINEAR ? x * T(0) + T(1) : x * T(0);
    }
}

// ---- memory, threads, layout -------------------------------------------------------------------------------------

template <class T>
class Buffer {
public:
    explicit Buffer(size_t size) {
        const size_t bytes = (std::max<size_t>(size, 1) * sizeof(T) + 63) / 64 * 64;
        data_ = static_cast<T*>(std::aligned_alloc(64, bytes));
        if (data_ == nullptr) throw std::bad_alloc();
    }
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }
    operator T*() { return data_; }

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

// Outputs are padded to whole vectors and cut into chunks of at most MOST_VECTORS vectors; within a chunk, rows of
// base weights and coefficients of one input follow each other without gaps.
template <class T>
struct Layout {
    int64_t outputs, rows, vectors, chunks;
    Layout(int64_t outputs_, int64_t rows_)
        : outputs(outputs_), rows(rows_), vectors((outputs_ + WIDTH<T> - 1) / WIDTH<T>),
          chunks((vectors + MOST_VECTORS - 1) / MOST_VECTORS) {}
    int64_t first(int64_t chunk) const { return vectors * chunk / chunks; }
    int64_t count(int64_t chunk) const { return first(chunk + 1) - first(chunk); }
    int64_t padded() const { return vectors * WIDTH<T>; }
    // Calls visit(packed offset, output, number of outputs, padded number) for every chunk of the row `row` of `input`.
    template <class Visit>
    void each(int64_t inputs, int64_t input, int64_t row, const Visit& visit) const {
        for (int64_t c = 0; c < chunks; ++c) {
            const int64_t start = first(c) * WIDTH<T>, size = count(c) * WIDTH<T>;
            visit(start * inputs * rows + (input * rows + row) * size, start, std::min(size, outputs - start), size);
        }
    }
};

template <class T>
void pack(const Layout<T>& layout, int64_t inputs, const T* coef, const T* base_weight, T* packed) {
    for (int64_t i = 0; i < inputs; ++i)
        for (int64_t r = 0; r < layout.rows; ++r) {
            const T* from = r == 0 ? (base_weight ? base_weight + i * layout.outputs : nullptr)
                                   : coef + (i * (layout.rows - 1) + r - 1) * layout.outputs;
            layout.each(inputs, i, r, [&](int64_t offset, int64_t start, int64_t size, int64_t padded) {
                for (int64_t o = 0; o < padded; ++o) packed[offset + o] = from && o < size ? from[start + o] : T(0);
            });
        }
}

// Every event touches the row of the base function, so a number there that is not finite means that a NaN or an infinity
// has met this input and output; then all coefficients get NaN, as they do when all rows are touched.
template <class T>
void unpack(const Layout<T>& layout, int64_t inputs, int64_t begin, int64_t end, const T* packed, T* coef, T* base_weight) {
    for (int64_t i = begin; i < end; ++i)
        layout.each(inputs, i, 0, [&](int64_t offset, int64_t start, int64_t size, int64_t padded) {
            const T* base = packed + offset;
            if (base_weight) std::copy_n(base, size, base_weight + i * layout.outputs + start);
            for (int64_t r = 1; r < layout.rows; ++r) {
                const T* row = base + r * padded;
                T* to = coef + (i * (layout.rows - 1) + r - 1) * layout.outputs + start;
                for (int64_t o = 0; o < size; ++o) to[o] = row[o] + (base[o] - base[o]);
            }
        });
}

// ---- the functions of one event and input ------------------------------------------------------------------------

template <class T, int K>
struct Point {
    T value[hepkan::lanes(K)], slope[hepkan::lanes(K)];
    T base, base_slope;
    typename Exp<T>::Int row;
};

template <class T>
struct Cells {
    typename Exp<T>::Int cell[TILE], row[TILE];
    T x[TILE], base[TILE], base_slope[TILE];
};

// Cells, rows and base function of one input for a tile of events.
template <class T>
void survey(const T* table, int intervals, int base, Cells<T>& out) {
    using V = Wide<T>;
    using IV = WideInt<T>;
    using Int = typename Exp<T>::Int;
    const IV first = IV{} + static_cast<Int>(table[0]), last = IV{} + static_cast<Int>(table[1]);
    const T* grid = table + 2;
    for (int e = 0; e < TILE; e += WIDTH<T>) {
        const V x = load<V>(out.x + e);
        IV cell = IV{};
        if (intervals <= LINEAR_SEARCH)
            for (int m = 0; m <= intervals; ++m) cell -= (IV)(x >= V{} + grid[m]);
        else
            for (int n = 0; n < WIDTH<T>; ++n) cell[n] = hepkan::locate(grid, intervals, x[n]);
        IV row = cell - 1;
        row = row < first ? first : row;
        row = row > last ? last : row;
        V value, slope;
        base_function<T>(base, x, value, slope);
        store(out.cell + e, cell), store(out.row + e, row);
        store(out.base + e, value), store(out.base_slope + e, slope);
    }
}

// Evaluates everything of `inputs` inputs (from `input`) for `events` events (from `event`).
template <class T, int K, bool SLOPES>
void prepare(const Matrix<T>& x, const T* tables, int intervals, int base, int64_t event, int events, int64_t input,
             int inputs, Point<T, K>* points) {
    constexpr int L = hepkan::lanes(K);
    using P = typename Vector<T, L>::type;
    const size_t size = hepkan::table_numbers(intervals, K);
    Cells<T> tile;
    for (int i = 0; i < inputs; ++i) {
        const T* table = tables + static_cast<size_t>(input + i) * size;
        const T* cells = table + hepkan::cells_offset(intervals);
        for (int e = 0; e < events; ++e) tile.x[e] = x.at(event + e, input + i);
        for (int e = events; e < TILE; ++e) tile.x[e] = T(0);
        survey<T>(table, intervals, base, tile);
        for (int e = 0; e < events; ++e) {
            const T* cell = cells + tile.cell[e] * hepkan::cell_numbers(K);
            const T u = (tile.x[e] - cell[0]) * cell[1];
            P v = load<P>(cell + (K + 1) * L), d = P{};
            for (int p = K - 1; p >= 0; --p) {
                if (SLOPES) d = d * u + v;
                v = v * u + load<P>(cell + (p + 1) * L);
            }
            Point<T, K>& point = points[e * BLOCK + i];
            store(point.value, v);
            point.base = tile.base[e];
            point.row = tile.row[e];
            if (SLOPES) store(point.slope, d * cell[1]), point.base_slope = tile.base_slope[e];
        }
    }
}

// ---- arithmetic along the outputs, N vectors at a time -----------------------------------------------------------

template <class T, int K, int N>
struct Rows {
    using V = Wide<T>;
    static constexpr int SIZE = N * WIDTH<T>;

    static void forward(const Point<T, K>* points, int events, int inputs, int64_t rows, const T* weights, T* y) {
        for (int e = 0; e < events; ++e, points += BLOCK, y += SIZE) {
            V sum[N];
            for (int n = 0; n < N; ++n) sum[n] = load<V>(y + n * WIDTH<T>);
            for (int i = 0; i < inputs; ++i) {
                const Point<T, K>& p = points[i];
                const T* base = weights + i * rows * SIZE;
                const T* row = base + (p.row + 1) * SIZE;
                for (int n = 0; n < N; ++n) sum[n] += p.base * load<V>(base + n * WIDTH<T>);
                for (int r = 0; r <= K; ++r)
                    for (int n = 0; n < N; ++n) sum[n] += p.value[r] * load<V>(row + r * SIZE + n * WIDTH<T>);
            }
            for (int n = 0; n < N; ++n) store(y + n * WIDTH<T>, sum[n]);
        }
    }

    template <bool X, bool W>
    static void backward(const Point<T, K>* points, int events, int inputs, int64_t rows, const T* weights,
                         const T* upstream, T* partial, T* gradient) {
        for (int e = 0; e < events; ++e, points += BLOCK, partial += BLOCK * 4, upstream += SIZE) {
            V g[N];
            for (int n = 0; n < N; ++n) g[n] = load<V>(upstream + n * WIDTH<T>);
            for (int i = 0; i < inputs; ++i) {
                const Point<T, K>& p = points[i];
                const int64_t base = i * rows * SIZE, row = base + (p.row + 1) * SIZE;
                if constexpr (W) {
                    accumulate(gradient + base, p.base, g);
                    for (int r = 0; r <= K; ++r) accumulate(gradient + row + r * SIZE, p.value[r], g);
                }
                if constexpr (X) {
                    V total = V{};
                    for (int n = 0; n < N; ++n) {
                        V slope = p.base_slope * load<V>(weights + base + n * WIDTH<T>);
                        for (int r = 0; r <= K; ++r)
                            slope += p.slope[r] * load<V>(weights + row + r * SIZE + n * WIDTH<T>);
                        total += slope * g[n];
                    }
                    using Four = typename Vector<T, 4>::type;
                    store(partial + i * 4, load<Four>(partial + i * 4) + fold<T, WIDTH<T>>(total));
                }
            }
        }
    }

    static void accumulate(T* to, T factor, const V (&g)[N]) {
        for (int n = 0; n < N; ++n) store(to + n * WIDTH<T>, load<V>(to + n * WIDTH<T>) + factor * g[n]);
    }
};

// Calls act with N = count as a compile-time number.
template <int N = 1, class Act>
inline void with_count(int64_t count, const Act& act) {
    if constexpr (N < MOST_VECTORS) {
        if (count != N) return with_count<N + 1>(count, act);
    }
    act(std::integral_constant<int, N>{});
}

template <class T>
struct Problem {
    Matrix<T> x;
    const T *tables, *coef, *base_weight;
    int64_t events, inputs, outputs;
    int intervals, base;
    int64_t threads;
};

template <class T, int K>
int forward(const Problem<T>& q, T* y) {
    const Layout<T> layout(q.outputs, q.intervals + K + 1);
    Buffer<T> weights(static_cast<size_t>(q.inputs * layout.rows * layout.padded()));
    pack(layout, q.inputs, q.coef, q.base_weight, static_cast<T*>(weights));
    const T* packed = weights;
    return split((q.events + TILE - 1) / TILE, q.threads, [&](int64_t begin, int64_t end) {
        Buffer<Point<T, K>> points(TILE * BLOCK);
        Buffer<T> sums(static_cast<size_t>(TILE * layout.padded()));
        for (int64_t event = begin * TILE; event < std::min(end * TILE, q.events); event += TILE) {
            const int events = static_cast<int>(std::min<int64_t>(TILE, q.events - event));
            std::fill_n(static_cast<T*>(sums), TILE * layout.padded(), T(0));
            for (int64_t input = 0; input < q.inputs; input += BLOCK) {
                const int inputs = static_cast<int>(std::min<int64_t>(BLOCK, q.inputs - input));
                prepare<T, K, false>(q.x, q.tables, q.intervals, q.base, event, events, input, inputs, points);
                for (int64_t c = 0; c < layout.chunks; ++c) {
                    const int64_t start = layout.first(c) * WIDTH<T>, size = layout.count(c) * WIDTH<T>;
                    with_count(layout.count(c), [&](auto count) {
                        Rows<T, K, count>::forward(points, events, inputs, layout.rows,
                                                   packed + (start * q.inputs + input * size) * layout.rows,
                                                   sums + start * TILE);
                    });
                }
            }
            for (int e = 0; e < events; ++e)
                for (int64_t c = 0; c < layout.chunks; ++c) {
                    const int64_t start = layout.first(c) * WIDTH<T>, size = layout.count(c) * WIDTH<T>;
                    std::memcpy(y + (event + e) * q.outputs + start, sums + start * TILE + e * size,
                                static_cast<size_t>(std::min(size, q.outputs - start)) * sizeof(T));
                }
        }
    });
}

template <class T>
void pad_upstream(const Layout<T>& layout, const Matrix<T>& upstream, int64_t event, int events, T* padded) {
    for (int64_t c = 0; c < layout.chunks; ++c) {
        const int64_t start = layout.first(c) * WIDTH<T>, size = layout.count(c) * WIDTH<T>;
        for (int e = 0; e < events; ++e)
            for (int64_t o = 0; o < size; ++o)
                padded[start * TILE + e * size + o] = start + o < layout.outputs ? upstream.at(event + e, start + o) : T(0);
    }
}

template <class T, int K, bool X, bool W>
int backward(const Problem<T>& q, const Matrix<T>& upstream, T* dx, T* dcoef, T* dbase) {
    const Layout<T> layout(q.outputs, q.intervals + K + 1);
    const int64_t row_numbers = layout.rows * layout.padded();
    Buffer<T> weights(static_cast<size_t>(X ? q.inputs * row_numbers : 0));
    if (X) pack(layout, q.inputs, q.coef, q.base_weight, static_cast<T*>(weights));
    Buffer<T> gradients(static_cast<size_t>(W ? q.inputs * row_numbers : 0));
    const T* packed = weights;
    T* gradient = gradients;
    return split(q.inputs, q.threads, [&](int64_t begin, int64_t end) {
        Buffer<Point<T, K>> points(TILE * BLOCK);
        Buffer<T> padded(static_cast<size_t>(TILE * layout.padded())), partial(TILE * BLOCK * 4);
        if (W)
            for (int64_t c = 0; c < layout.chunks; ++c) {
                const int64_t start = layout.first(c) * WIDTH<T>, size = layout.count(c) * WIDTH<T>;
                std::fill_n(gradient + (start * q.inputs + begin * size) * layout.rows, (end - begin) * size * layout.rows, T(0));
            }
        for (int64_t event = 0; event < q.events; event += TILE) {
            const int events = static_cast<int>(std::min<int64_t>(TILE, q.events - event));
            pad_upstream(layout, upstream, event, events, static_cast<T*>(padded));
            for (int64_t input = begin; input < end; input += BLOCK) {
                const int inputs = static_cast<int>(std::min<int64_t>(BLOCK, end - input));
                prepare<T, K, X>(q.x, q.tables, q.intervals, q.base, event, events, input, inputs, points);
                if (X) std::fill_n(static_cast<T*>(partial), TILE * BLOCK * 4, T(0));
                for (int64_t c = 0; c < layout.chunks; ++c) {
                    const int64_t start = layout.first(c) * WIDTH<T>, size = layout.count(c) * WIDTH<T>;
                    const int64_t offset = (start * q.inputs + input * size) * layout.rows;
                    with_count(layout.count(c), [&](auto count) {
                        Rows<T, K, count>::template backward<X, W>(points, events, inputs, layout.rows, packed + offset,
                                                                   padded + start * TILE, partial, gradient + offset);
                    });
                }
                if (X)
                    for (int e = 0; e < events; ++e)
                        for (int i = 0; i < inputs; ++i) {
                            const T* p = partial + (e * BLOCK + i) * 4;
                            dx[(event + e) * q.inputs + input + i] = (p[0] + p[1]) + (p[2] + p[3]);
                        }
            }
        }
        if (W) unpack(layout, q.inputs, begin, end, gradient, dcoef, dbase);
    });
}

template <class T, int K>
int backward_choice(const Problem<T>& q, const Matrix<T>& upstream, T* dx, T* dcoef, T* dbase) {
    if (dx && dcoef) return backward<T, K, true, true>(q, upstream, dx, dcoef, dbase);
    if (dx) return backward<T, K, true, false>(q, upstream, dx, dcoef, dbase);
    return dcoef ? backward<T, K, false, true>(q, upstream, dx, dcoef, dbase) : 0;
}

// Calls act with the degree as a compile-time number; 0 fine, 1 out of memory, 2 a degree that is not built.
template <class Act>
int with_degree(int degree, const Act& act) {
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
    return with_degree(static_cast<int>(degree), [&](auto k) {
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
    API int hepkan_forward_##SUFFIX(const T* x, int64_t x_row, int64_t x_column, const T* tables, const T* coef,          \
                                    const T* base_weight, T* y, int64_t events, int64_t inputs, int64_t outputs,          \
                                    int64_t intervals, int64_t degree, int64_t base, int64_t threads) {                   \
        const Problem<T> q{{x, x_row, x_column}, tables, coef, base_weight, events, inputs, outputs,                      \
                           static_cast<int>(intervals), static_cast<int>(base), threads};                                 \
        return with_degree(static_cast<int>(degree), [&](auto k) { return forward<T, decltype(k)::value>(q, y); });       \
    }                                                                                                                     \
    API int hepkan_backward_##SUFFIX(const T* x, int64_t x_row, int64_t x_column, const T* tables, const T* coef,         \
                                     const T* base_weight, const T* dy, int64_t dy_row, int64_t dy_column, T* dx,         \
                                     T* dcoef, T* dbase, int64_t events, int64_t inputs, int64_t outputs,                 \
                                     int64_t intervals, int64_t degree, int64_t base, int64_t threads) {                  \
        const Problem<T> q{{x, x_row, x_column}, tables, coef, base_weight, events, inputs, outputs,                      \
                           static_cast<int>(intervals), static_cast<int>(base), threads};                                 \
        return with_degree(static_cast<int>(degree), [&](auto k) {                                                        \
            return backward_choice<T, decltype(k)::value>(q, {dy, dy_row, dy_column}, dx, dcoef, dbase);                  \
        });                                                                                                               \
    }

DEFINE(float, f32)
DEFINE(double, f64)

API int64_t hepkan_table_numbers(int64_t intervals, int64_t degree) {
    return static_cast<int64_t>(hepkan::table_numbers(static_cast<int>(intervals), static_cast<int>(degree)));
}

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
