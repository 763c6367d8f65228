// The Kolmogorov-Arnold layer y_o = sum_i [ base(x_i) W_io + sum_m B_m(x_i) C_imo ], forward and backward, behind a C ABI.
//
// The file is compiled several times, once per instruction set; the vector width follows the compiler's flags. The
// coefficients C are first turned into polynomials per cell of the grid (`Cells`), so that per event and input only
// degree + 1 rows of them and one row of W are touched and the cost per event does not grow with the grid. Work goes in
// tiles of events: `survey` finds cells and base functions of one input, `Rows` does the arithmetic along the outputs.
// Forward splits events over threads, backward splits inputs, so each sum is always taken in the same order: results
// are the same bits for any number of threads.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
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
constexpr int TILE = 64;           // events evaluated at a time
constexpr int64_t PART = 8192;     // events per partial sum of gradients, a multiple of TILE
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

// s in every lane; subtracting zero costs nothing, adding it would (because of -0).
template <class V, class T>
inline V splat(T s) {
    return s - V{};
}

// Lanes of a and b side by side in blocks of HALF: even blocks of both, or odd blocks of both.
template <class V, class IV, int HALF, bool ODD, int... LANE>
inline V blocks(const V& a, const V& b, std::integer_sequence<int, LANE...>) {
    constexpr int N = sizeof...(LANE);
#if defined(__clang__)
    return __builtin_shufflevector(a, b, (LANE / HALF % 2 * N + LANE / (2 * HALF) * 2 * HALF + LANE % HALF + ODD * HALF)...);
#else
    return __builtin_shuffle(a, b, IV{(LANE / HALF % 2 * N + LANE / (2 * HALF) * 2 * HALF + LANE % HALF + ODD * HALF)...});
#endif
}

// Lane n of the result is the sum of the lanes of vectors[n * stride].
template <class V, class IV, int N, int HALF = 1>
inline V lane_sums(const V* vectors, int stride = 1) {
    if constexpr (HALF == N) {
        return vectors[0];
    } else {
        const V a = lane_sums<V, IV, N, 2 * HALF>(vectors, 2 * stride);
        const V b = lane_sums<V, IV, N, 2 * HALF>(vectors + stride, 2 * stride);
        constexpr std::make_integer_sequence<int, N> lanes{};
        return blocks<V, IV, HALF, false>(a, b, lanes) + blocks<V, IV, HALF, true>(a, b, lanes);
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
        const Wide<T> zero = Wide<T>{}, bound = limit - zero;
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

// Outputs are padded to whole vectors and cut into chunks of at most MOST_VECTORS vectors.
template <class T>
struct Layout {
    int64_t outputs, vectors, chunks;
    explicit Layout(int64_t outputs_)
        : outputs(outputs_), vectors((outputs_ + WIDTH<T> - 1) / WIDTH<T>),
          chunks((vectors + MOST_VECTORS - 1) / MOST_VECTORS) {}
    int64_t padded() const { return vectors * WIDTH<T>; }
    // Calls visit(number of vectors, first output, outputs, padded outputs) for every chunk.
    template <class Visit>
    void each(const Visit& visit) const {
        for (int64_t c = 0; c < chunks; ++c) {
            const int64_t first = vectors * c / chunks, count = vectors * (c + 1) / chunks - first;
            const int64_t start = first * WIDTH<T>, size = count * WIDTH<T>;
            visit(count, start, std::min(size, outputs - start), size);
        }
    }
};

// ---- one input for a tile of events ------------------------------------------------------------------------------

// x of a tile, one row per input; numbers beyond `events` are 0.
constexpr int TILE_STRIDE = TILE + 16;
template <class T>
void transpose(const Matrix<T>& x, int64_t event, int events, int64_t begin, int64_t end, T* tile) {
    for (int e = 0; e < events; ++e)
        for (int64_t i = begin; i < end; ++i) tile[(i - begin) * TILE_STRIDE + e] = x.at(event + e, i);
    for (int64_t i = begin; i < end; ++i)
        for (int e = events; e < TILE; ++e) tile[(i - begin) * TILE_STRIDE + e] = T(0);
}

template <class T>
struct Survey {
    typename Exp<T>::Int cell[TILE];
    T u[TILE], base[TILE], base_slope[TILE];
};

// Cells, local coordinates and base function.
template <class T, int K>
void survey(const T* x, const T* table, int intervals, int base, Survey<T>& out) {
    using V = Wide<T>;
    using IV = WideInt<T>;
    for (int e = 0; e < TILE; e += WIDTH<T>) {
        const V at = load<V>(x + e);
        IV cell = IV{};
        if (intervals <= LINEAR_SEARCH)
            for (int m = 0; m <= intervals; ++m) cell -= (IV)(at >= splat<V>(table[m]));
        else
            for (int n = 0; n < WIDTH<T>; ++n) cell[n] = hepkan::locate(table, intervals, at[n]);
        V value, slope;
        base_function<T>(base, at, value, slope);
        store(out.cell + e, cell);
        store(out.base + e, value), store(out.base_slope + e, slope);
    }
    const T* cells = table + hepkan::cells_offset(intervals);
#pragma GCC ivdep
    for (int e = 0; e < TILE; ++e) {
        const auto at = out.cell[e] * hepkan::cell_numbers(K);
        out.u[e] = (x[e] - cells[at]) * cells[at + 1];
    }
}

// ---- weights of one input as polynomials, cell by cell -----------------------------------------------------------

// Rows of one input and chunk: the base function's, then per cell `powers` rows. Both loops below go over the chunks,
// with `scratch` for the intervals + K spline rows of a chunk.
template <class T, int K>
struct Cells {
    using V = Wide<T>;
    const T* cells;
    int intervals;
    const T* cell(int m) const { return cells + m * static_cast<size_t>(hepkan::cell_numbers(K)); }
    int row(int m) const { return static_cast<int>(cell(m)[2]); }
    T factor(int m, int p, int r) const { return cell(m)[(p + 1) * hepkan::lanes(K) + r]; }
    int powers(int m) const { return m == 0 || m == intervals + 1 ? 2 : K + 1; }

    // Polynomials' coefficients per output (DERIVATIVE: those of the derivative to x).
    template <bool DERIVATIVE>
    void expand(const T* spline, const T* base, int64_t outputs, int64_t size, int64_t stride, T* scratch, T* packed) const {
        constexpr int FIRST = DERIVATIVE ? 1 : 0, POWERS = K + 1 - FIRST;
        for (int64_t o = 0; o < size; ++o) packed[o] = base && o < outputs ? base[o] : T(0);
        for (int m = 0; m < intervals + K; ++m) {
            std::copy_n(spline + m * stride, outputs, scratch + m * size);
            std::fill_n(scratch + m * size + outputs, size - outputs, T(0));
        }
        for (int m = 0; m < intervals + 2; ++m)
            for (int64_t o = 0; o < size; o += WIDTH<T>) {
                V rows[K + 1];
                for (int r = 0; r <= K; ++r) rows[r] = load<V>(scratch + (row(m) + r) * size + o);
                for (int p = FIRST; p <= K; ++p) {
                    V sum = factor(m, p, 0) * rows[0];
                    for (int r = 1; r <= K; ++r) sum += factor(m, p, r) * rows[r];
                    store(packed + (1 + m * POWERS + p - FIRST) * size + o, DERIVATIVE ? sum * (T(p) * cell(m)[1]) : sum);
                }
            }
    }

    // Adds to the coefficients' gradient what the moments sum_events u^p dy say.
    void collect(const T* moments, int64_t outputs, int64_t size, int64_t stride, T* scratch, T* spline, T* base) const {
        std::fill_n(scratch, (intervals + K) * size, T(0));
        for (int m = 0; m < intervals + 2; ++m)
            for (int64_t o = 0; o < size; o += WIDTH<T>)
                for (int r = 0; r <= K; ++r) {
                    T* to = scratch + (row(m) + r) * size + o;
                    V sum = load<V>(to);
                    for (int p = 0; p < powers(m); ++p)
                        sum += factor(m, p, r) * load<V>(moments + (1 + m * (K + 1) + p) * size + o);
                    store(to, sum);
                }
        // Every event touches the row of the base function, so a number there that is not finite means that a NaN or an
        // infinity has met this input and output; then all coefficients get NaN, as they do when all rows are touched.
        for (int m = 0; m < intervals + K; ++m)
            for (int64_t o = 0; o < outputs; ++o) spline[m * stride + o] += scratch[m * size + o] + (moments[o] - moments[o]);
        for (int64_t o = 0; base && o < outputs; ++o) base[o] += moments[o];
    }
};

// ---- arithmetic along the outputs, N vectors at a time -----------------------------------------------------------

template <class T, int K, int N>
struct Rows {
    using V = Wide<T>;
    static constexpr int W = WIDTH<T>, SIZE = N * W;

    static void forward(const Survey<T>& s, int events, const T* weights, T* y) {
        V base[N];
        for (int n = 0; n < N; ++n) base[n] = load<V>(weights + n * W);
        for (int e = 0; e < events; ++e, y += SIZE) {
            const T* a = weights + (1 + s.cell[e] * (K + 1)) * SIZE;
            const V u = splat<V>(s.u[e]), b = splat<V>(s.base[e]);
            for (int n = 0; n < N; ++n) {
                V v = load<V>(a + K * SIZE + n * W);
                for (int p = K - 1; p > 0; --p) v = v * u + load<V>(a + p * SIZE + n * W);
                store(y + n * W, v * u + (b * base[n] + load<V>(y + n * W) + load<V>(a + n * W)));
            }
        }
    }

    // MOMENTS: adds base(x) dy and u^p dy to their rows. SLOPES: sums dy times the slopes, one vector per event.
    template <bool SLOPES, bool MOMENTS>
    static void backward(const Survey<T>& s, int events, const T* derivatives, const T* dy, T* sums, T* moments) {
        V base[N], moment[N];
        for (int n = 0; n < N; ++n) {
            if (SLOPES) base[n] = load<V>(derivatives + n * W);
            if (MOMENTS) moment[n] = load<V>(moments + n * W);
        }
        for (int e = 0; e < events; ++e, dy += SIZE, sums += W) {
            V g[N], power = splat<V>(s.u[e]);
            for (int n = 0; n < N; ++n) g[n] = load<V>(dy + n * W);
            if constexpr (SLOPES) {
                const T* d = derivatives + (1 + s.cell[e] * K) * SIZE;
                const V u = power, b = splat<V>(s.base_slope[e]);
                V total = V{};
                for (int n = 0; n < N; ++n) {
                    V v = load<V>(d + (K - 1) * SIZE + n * W);
                    for (int p = K - 2; p >= 0; --p) v = v * u + load<V>(d + p * SIZE + n * W);
                    total += (v + b * base[n]) * g[n];
                }
                store(sums, load<V>(sums) + total);
            }
            if constexpr (MOMENTS) {
                T* to = moments + (1 + s.cell[e] * (K + 1)) * SIZE;
                const V u = power, b = splat<V>(s.base[e]);
                for (int n = 0; n < N; ++n) moment[n] += b * g[n], store(to + n * W, load<V>(to + n * W) + g[n]);
                for (int p = 1; p <= K; ++p, power *= u)
                    for (int n = 0; n < N; ++n)
                        store(to + p * SIZE + n * W, load<V>(to + p * SIZE + n * W) + power * g[n]);
            }
        }
        if (MOMENTS)
            for (int n = 0; n < N; ++n) store(moments + n * W, moment[n]);
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
Cells<T, K> cells_of(const Problem<T>& q, int64_t input) {
    const size_t size = hepkan::table_numbers(q.intervals, K);
    return {q.tables + static_cast<size_t>(input) * size + hepkan::cells_offset(q.intervals), q.intervals};
}

template <class T, int K>
void survey_of(const Problem<T>& q, const T* x, int64_t input, Survey<T>& out) {
    survey<T, K>(x, q.tables + static_cast<size_t>(input) * hepkan::table_numbers(q.intervals, K), q.intervals, q.base, out);
}

// Polynomials of inputs begin .. end - 1: per chunk, per input, `rows` rows.
template <class T, int K, bool DERIVATIVE>
void expand(const Problem<T>& q, const Layout<T>& layout, int64_t begin, int64_t end, int64_t rows, T* packed) {
    Buffer<T> scratch(static_cast<size_t>((q.intervals + K) * MOST_VECTORS * WIDTH<T>));
    for (int64_t input = begin; input < end; ++input)
        layout.each([&](int64_t, int64_t start, int64_t outputs, int64_t size) {
            const T* spline = q.coef + input * (q.intervals + K) * q.outputs + start;
            const T* base = q.base_weight ? q.base_weight + input * q.outputs + start : nullptr;
            cells_of<T, K>(q, input).template expand<DERIVATIVE>(
                spline, base, outputs, size, q.outputs, scratch, packed + (start * (end - begin) + (input - begin) * size) * rows);
        });
}

template <class T, int K>
int forward(const Problem<T>& q, T* y) {
    const Layout<T> layout(q.outputs);
    const int64_t rows = 1 + static_cast<int64_t>(q.intervals + 2) * (K + 1);
    Buffer<T> weights(static_cast<size_t>(q.inputs * rows * layout.padded()));
    const T* packed = weights;
    expand<T, K, false>(q, layout, 0, q.inputs, rows, static_cast<T*>(weights));
    return split((q.events + TILE - 1) / TILE, q.threads, [&](int64_t begin, int64_t end) {
        Buffer<T> sums(static_cast<size_t>(TILE * layout.padded())), x(static_cast<size_t>(TILE_STRIDE * q.inputs));
        Survey<T> s;
        for (int64_t event = begin * TILE; event < std::min(end * TILE, q.events); event += TILE) {
            const int events = static_cast<int>(std::min<int64_t>(TILE, q.events - event));
            std::fill_n(static_cast<T*>(sums), TILE * layout.padded(), T(0));
            transpose(q.x, event, events, 0, q.inputs, static_cast<T*>(x));
            for (int64_t input = 0; input < q.inputs; ++input) {
                survey_of<T, K>(q, x + input * TILE_STRIDE, input, s);
                layout.each([&](int64_t count, int64_t start, int64_t, int64_t size) {
                    const T* from = packed + (start * q.inputs + input * size) * rows;
                    with_count(count, [&](auto n) { Rows<T, K, n>::forward(s, events, from, sums + start * TILE); });
                });
            }
            layout.each([&](int64_t, int64_t start, int64_t outputs, int64_t size) {
                for (int e = 0; e < events; ++e)
                    std::copy_n(sums + start * TILE + e * size, outputs, y + (event + e) * q.outputs + start);
            });
        }
    });
}

template <class T>
void pad(const Layout<T>& layout, const Matrix<T>& dy, int64_t event, int events, T* padded) {
    layout.each([&](int64_t, int64_t start, int64_t outputs, int64_t size) {
        for (int e = 0; e < events; ++e)
            for (int64_t o = 0; o < size; ++o)
                padded[start * TILE + e * size + o] = o < outputs ? dy.at(event + e, start + o) : T(0);
    });
}

// Backward of inputs begin .. end - 1; they belong to one thread, which alone writes their gradients. Moments are taken
// over parts of the events, so that rounding does not grow with their number.
template <class T, int K, bool X, bool W>
void backward_inputs(const Problem<T>& q, const Matrix<T>& dy, int64_t begin, int64_t end, T* dx, T* dcoef, T* dbase) {
    const Layout<T> layout(q.outputs);
    const int64_t cells = q.intervals + 2, slope_rows = 1 + cells * K, moment_rows = 1 + cells * (K + 1), inputs = end - begin;
    Buffer<T> derivatives(static_cast<size_t>(X ? inputs * slope_rows * layout.padded() : 0));
    const size_t numbers = static_cast<size_t>(W ? inputs * moment_rows * layout.padded() : 0);
    Buffer<T> moments(numbers), padded(static_cast<size_t>(TILE * layout.padded())), sums(TILE * WIDTH<T>);
    Buffer<T> x(static_cast<size_t>(TILE_STRIDE * inputs));
    Buffer<T> scratch(static_cast<size_t>((q.intervals + K) * MOST_VECTORS * WIDTH<T>));
    if (X) expand<T, K, true>(q, layout, begin, end, slope_rows, static_cast<T*>(derivatives));
    if (W) std::fill_n(dcoef + begin * (q.intervals + K) * q.outputs, inputs * (q.intervals + K) * q.outputs, T(0));
    if (W && dbase) std::fill_n(dbase + begin * q.outputs, inputs * q.outputs, T(0));
    Survey<T> s;
    for (int64_t part = 0; part < q.events; part += PART) {
        std::fill_n(static_cast<T*>(moments), numbers, T(0));
        for (int64_t event = part; event < std::min(part + PART, q.events); event += TILE) {
            const int events = static_cast<int>(std::min<int64_t>(TILE, q.events - event));
            pad(layout, dy, event, events, static_cast<T*>(padded));
            transpose(q.x, event, events, begin, end, static_cast<T*>(x));
            for (int64_t input = begin; input < end; ++input) {
                survey_of<T, K>(q, x + (input - begin) * TILE_STRIDE, input, s);
                if (X) std::fill_n(static_cast<T*>(sums), TILE * WIDTH<T>, T(0));
                layout.each([&](int64_t count, int64_t start, int64_t, int64_t size) {
                    const int64_t place = start * inputs + (input - begin) * size;
                    with_count(count, [&](auto n) {
                        Rows<T, K, n>::template backward<X, W>(s, events, derivatives + place * slope_rows,
                                                               padded + start * TILE, sums, moments + place * moment_rows);
                    });
                });
                for (int e = 0; X && e < events; e += WIDTH<T>) {
                    const auto total = lane_sums<Wide<T>, WideInt<T>, WIDTH<T>>(reinterpret_cast<Wide<T>*>(sums + e * WIDTH<T>));
                    for (int n = 0; n < std::min(WIDTH<T>, events - e); ++n) dx[(event + e + n) * q.inputs + input] = total[n];
                }
            }
        }
        for (int64_t input = begin; W && input < end; ++input)
            layout.each([&](int64_t, int64_t start, int64_t outputs, int64_t size) {
                cells_of<T, K>(q, input).collect(moments + (start * inputs + (input - begin) * size) * moment_rows, outputs,
                                                 size, q.outputs, scratch,
                                                 dcoef + input * (q.intervals + K) * q.outputs + start,
                                                 dbase ? dbase + input * q.outputs + start : nullptr);
            });
    }
}

template <class T, int K, bool X, bool W>
int backward(const Problem<T>& q, const Matrix<T>& dy, T* dx, T* dcoef, T* dbase) {
    return split(q.inputs, q.threads, [&](int64_t begin, int64_t end) {
        backward_inputs<T, K, X, W>(q, dy, begin, end, dx, dcoef, dbase);
    });
}

template <class T, int K>
int backward_choice(const Problem<T>& q, const Matrix<T>& dy, T* dx, T* dcoef, T* dbase) {
    if (dx && dcoef) return backward<T, K, true, true>(q, dy, dx, dcoef, dbase);
    if (dx) return backward<T, K, true, false>(q, dy, dx, dcoef, dbase);
    return dcoef ? backward<T, K, false, true>(q, dy, dx, dcoef, dbase) : 0;
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
