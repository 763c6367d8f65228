// A layer whose edges share the functions of their input: a few functions per input, and edges that combine them.
//
// In a tile of events the base function and the functions of all inputs become a matrix of features, one row per feature,
// and the layer is a product of matrices. A function is a polynomial per cell: its gradient is gathered as the moments
// sum u^p dy of each cell and power, and becomes that of the B-splines' coefficients once at the end.
#ifndef HEPKAN_SHARED_HPP
#define HEPKAN_SHARED_HPP

#include "edge_rows.hpp"

namespace {

// ---- c += a b ------------------------------------------------------------------------------------------------------

// A matrix whose numbers are anywhere, and one with the numbers of a row side by side.
template <class T>
struct Scattered {
    const T* data;
    int64_t row, column;
};
template <class T>
struct InRows {
    T* data;
    int64_t row;
};

template <class T, int ROWS, int N>
inline void multiply_block(const Scattered<T>& a, const InRows<const T>& b, const InRows<T>& c, int64_t middle) {
    using V = Wide<T>;
    constexpr int W = WIDTH<T>;
    V sum[ROWS][N];
    for (int m = 0; m < ROWS; ++m)
        for (int n = 0; n < N; ++n) sum[m][n] = load<V>(c.data + m * c.row + n * W);
    for (int64_t k = 0; k < middle; ++k) {
        const T *left = a.data + k * a.column, *right = b.data + k * b.row;
        for (int m = 0; m < ROWS; ++m) {
            const V one = splat<V>(left[m * a.row]);
            for (int n = 0; n < N; ++n) sum[m][n] += one * load<V>(right + n * W);
        }
    }
    for (int m = 0; m < ROWS; ++m)
        for (int n = 0; n < N; ++n) store(c.data + m * c.row + n * W, sum[m][n]);
}

// c (rows, columns) += a (rows, middle) b (middle, columns); columns are whole vectors.
template <class T>
void multiply(const Scattered<T>& a, const InRows<const T>& b, const InRows<T>& c, int64_t rows, int64_t middle,
              int64_t columns) {
    constexpr int W = WIDTH<T>;
    constexpr int64_t SIZE = MOST_VECTORS * W;
    for (int64_t n = 0; n < columns; n += SIZE)
        with_count(std::min(SIZE, columns - n) / W, [&](auto count) {
            constexpr int N = decltype(count)::value, ROWS = (VECTOR_BYTES == 64 ? 24 : 12) / N;
            const InRows<const T> right{b.data + n, b.row};
            int64_t m = 0;
            for (; m + ROWS <= rows; m += ROWS)
                multiply_block<T, ROWS, N>({a.data + m * a.row, a.row, a.column}, right, {c.data + m * c.row + n, c.row}, middle);
            for (; m < rows; ++m)
                multiply_block<T, 1, N>({a.data + m * a.row, a.row, a.column}, right, {c.data + m * c.row + n, c.row}, middle);
        });
}

// ---- the functions of one input ------------------------------------------------------------------------------------

// For each event its cell, its place there and the place's slope.
template <class T>
struct Places {
    Ints<T> cell[TILE];
    T u[TILE], scale[TILE];
};

template <class T, int K>
struct Functions {
    static constexpr int L = hepkan::lanes(K);
    const T* table;
    int intervals, base, rank;

    // Numbers of the polynomials, and of the moments: per cell and function those of each power.
    static int64_t numbers(int64_t intervals, int64_t rank) { return (intervals + 2) * rank * (K + 1); }

    const T* cell(int m) const { return table + hepkan::cells_offset(intervals) + m * size_t(hepkan::cell_numbers(K)); }

    // The polynomials of the functions with coefficients `shapes` (intervals + K, rank).
    void pack(const T* shapes, T* polynomials) const {
        for (int m = 0; m < intervals + 2; ++m)
            for (int r = 0; r < rank; ++r)
                for (int p = 0; p <= K; ++p) {
                    const T *weights = cell(m) + (p + 1) * L, *shape = shapes + int(cell(m)[2]) * rank + r;
                    T sum = T(0);
                    for (int k = 0; k <= K; ++k) sum += weights[k] * shape[k * rank];
                    *polynomials++ = sum;
                }
    }

    // And back: the gradient of the coefficients. A NaN in the moments of a function makes all of its gradient NaN, as it
    // is when all B-splines are evaluated.
    void unpack(const T* moments, T* dshapes) const {
        std::fill_n(dshapes, (intervals + K) * rank, T(0));
        for (int r = 0; r < rank; ++r) {
            T all = T(0);
            for (int m = 0; m < intervals + 2; ++m)
                for (int p = 0; p <= K; ++p) {
                    const T moment = moments[(m * rank + r) * (K + 1) + p];
                    all += moment;
                    for (int k = 0; k <= K; ++k)
                        dshapes[(int(cell(m)[2]) + k) * rank + r] += moment * cell(m)[(p + 1) * L + k];
                }
            for (int m = 0; m < intervals + K; ++m) dshapes[m * rank + r] += all - all;
        }
    }

    void locate(const T* x, Places<T>& at) const {
        find_cells<T, K>(x, TILE, table, intervals, at.cell);
        for (int e = 0; e < TILE; ++e) {
            const T* here = cell(int(at.cell[e]));
            at.scale[e] = here[1];
            at.u[e] = (x[e] - here[0]) * here[1];
        }
    }

    // Rows of TILE numbers: the base function, then the functions; their slopes likewise.
    template <bool SLOPES>
    void evaluate(const T* x, const Places<T>& at, const T* polynomials, T* value, T* slope) const {
        for (int e = 0; e < TILE; e += WIDTH<T>) {
            Wide<T> v, d;
            base_function<T>(base, load<Wide<T>>(x + e), v, d);
            store(value + e, v);
            if (SLOPES) store(slope + e, d);
        }
        for (int r = 0; r < rank; ++r) {
            value += TILE;
            if (SLOPES) slope += TILE;
            for (int e = 0; e < TILE; ++e) {
                const T *c = polynomials + (at.cell[e] * rank + r) * (K + 1), u = at.u[e];
                T v = c[K], d = T(0);
                for (int p = K - 1; p >= 0; --p) {
                    if (SLOPES) d = d * u + v;
                    v = v * u + c[p];
                }
                value[e] = v;
                if (SLOPES) slope[e] = d * at.scale[e];
            }
        }
    }

    // Adds to the moments; upstream: rows of TILE numbers, those of the base function first.
    void add_moments(const Places<T>& at, int events, const T* upstream, T* moments) const {
        for (int r = 0; r < rank; ++r) {
            const T* dy = upstream + (1 + r) * TILE;
            for (int e = 0; e < events; ++e) {
                T* to = moments + (at.cell[e] * rank + r) * (K + 1);
                T power = dy[e];
                for (int p = 0; p <= K; ++p, power *= at.u[e]) to[p] += power;
            }
        }
    }

    // The gradient of x: upstream times slopes, summed over the features.
    void gradient(const T* upstream, const T* slope, T* dx) const {
        for (int e = 0; e < TILE; e += WIDTH<T>) {
            Wide<T> sum = load<Wide<T>>(upstream + e) * load<Wide<T>>(slope + e);
            for (int r = 1; r <= rank; ++r)
                sum += load<Wide<T>>(upstream + r * TILE + e) * load<Wide<T>>(slope + r * TILE + e);
            store(dx + e, sum);
        }
    }
};

}  // namespace

#endif
