// A last layer of one output on a short grid, in single precision: the arithmetic goes along the events, sixteen at a time.
//
// Along the outputs a vector would hold one number. With one output an edge is a polynomial per cell, whose coefficients
// a vector of cells looks up in registers.
#ifndef HEPKAN_SINGLE_HPP
#define HEPKAN_SINGLE_HPP

#include "edge_rows.hpp"

namespace {

#if defined(__AVX512F__) && !defined(__clang__)

// Rows of one input: the base weight, then columns of the polynomials' coefficients, one of 16 cells for each power. In
// `moments`: the sum of base(x) dy, then sum u^p dy for each cell and power.
template <int K>
struct Single {
    using V = Wide<float>;
    using IV = WideInt<float>;
    static constexpr int COLUMN = hepkan::COLUMN, BLOCKS = TILE / COLUMN;
    const float* table;
    int intervals, base;

    static bool serves(int64_t outputs, int64_t intervals) { return outputs == 1 && intervals <= hepkan::FEW; }

    struct Place {
        IV cell;
        V u, scale, base, base_slope;
    };

    static V lookup(const float* column, IV cell) { return __builtin_shuffle(load<V>(column), cell); }

    Place place(V x) const {
        const float* columns = table + hepkan::registers_offset(intervals, K);
        Place at;
        at.cell = IV{};
        for (int m = 0; m <= intervals; ++m) at.cell -= (IV)(x >= splat<V>(table[m]));
        at.scale = lookup(columns + COLUMN, at.cell);
        at.u = (x - lookup(columns, at.cell)) * at.scale;
        base_function<float>(base, x, at.base, at.base_slope);
        return at;
    }

    const float* cell(int m) const {
        return table + hepkan::cells_offset(intervals) + m * static_cast<size_t>(hepkan::cell_numbers(K));
    }

    void pack(const float* spline, const float* weight, float* rows) const {
        std::fill_n(rows, (K + 2) * COLUMN, 0.0f);
        rows[0] = weight ? *weight : 0.0f;
        for (int m = 0; m < intervals + 2; ++m)
            for (int p = 0; p <= K; ++p)
                for (int r = 0; r <= K; ++r)
                    rows[(1 + p) * COLUMN + m] += cell(m)[(p + 1) * hepkan::lanes(K) + r] * spline[int(cell(m)[2]) + r];
    }

    // NaN for all where a NaN or an infinity has met this input, as when all rows are touched.
    void unpack(const float* moments, float* spline, float* weight) const {
        if (weight) *weight = moments[0];
        for (int m = 0; m < intervals + K; ++m) spline[m] = moments[0] - moments[0];
        for (int m = 0; m < intervals + 2; ++m)
            for (int r = 0; r <= K; ++r)
                for (int p = 0; p < (m == 0 || m == intervals + 1 ? 2 : K + 1); ++p)
                    spline[int(cell(m)[2]) + r] +=
                        cell(m)[(p + 1) * hepkan::lanes(K) + r] * moments[1 + m * (K + 1) + p];
    }

    void forward(const float* x, int events, const float* rows, float* y) const {
        for (int e = 0; e < events; e += COLUMN) {
            const Place at = place(load<V>(x + e));
            V v = lookup(rows + (K + 1) * COLUMN, at.cell);
            for (int p = K - 1; p >= 0; --p) v = v * at.u + lookup(rows + (1 + p) * COLUMN, at.cell);
            store(y + e, load<V>(y + e) + (v + at.base * rows[0]));
        }
    }

    // dy has zeros beyond `events`.
    void backward(const float* x, int events, const float* rows, const float* dy, float* dx, float* moments) const {
        IV cells[BLOCKS];
        V power[K + 1][BLOCKS], bases = V{};
        const int blocks = (events + COLUMN - 1) / COLUMN;
        for (int b = 0; b < blocks; ++b) {
            const Place at = place(load<V>(x + b * COLUMN));
            const V g = load<V>(dy + b * COLUMN);
            if (dx) {
                V v = lookup(rows + (K + 1) * COLUMN, at.cell) * float(K);
                for (int p = K - 1; p > 0; --p) v = v * at.u + lookup(rows + (1 + p) * COLUMN, at.cell) * float(p);
                store(dx + b * COLUMN, g * (v * at.scale + at.base_slope * rows[0]));
            }
            cells[b] = at.cell;
            bases += at.base * g;
            power[0][b] = g;
            for (int p = 1; p <= K; ++p) power[p][b] = power[p - 1][b] * at.u;
        }
        if (!moments) return;
        moments[0] += sum(bases);
        for (int m = 0; m < intervals + 2; ++m)
            for (int p = 0; p <= K; ++p) {
                V total = V{};
                for (int b = 0; b < blocks; ++b) total += cells[b] == m ? power[p][b] : V{};
                moments[1 + m * (K + 1) + p] += sum(total);
            }
    }

    static float sum(const V& v) { return _mm512_reduce_add_ps((__m512)v); }
};

#else

template <int K>
struct Single {
    const float* table;
    int intervals, base;
    static bool serves(int64_t, int64_t) { return false; }
    void pack(const float*, const float*, float*) const {}
    void unpack(const float*, float*, float*) const {}
    void forward(const float*, int, const float*, float*) const {}
    void backward(const float*, int, const float*, const float*, float*, float*) const {}
};

#endif

}  // namespace

#endif
