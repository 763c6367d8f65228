// One input of a layer for a tile of events: the B-splines that differ from zero, and the arithmetic along the outputs.
//
// Per event and input only degree + 1 rows of coefficients and one row of base weights are touched, so the cost does not
// grow with the grid.
#ifndef HEPKAN_EDGE_ROWS_HPP
#define HEPKAN_EDGE_ROWS_HPP

#include "spline.hpp"
#include "vectors.hpp"

namespace {

constexpr int TILE = 64;          // events evaluated at a time
constexpr int MOST_VECTORS = 4;   // outputs handled in one pass, in vectors

// Outputs are padded to whole vectors and cut into chunks. Rows of one input: base weights, then coefficients.
template <class T>
struct Layout {
    int64_t outputs, vectors, chunks, rows;
    Layout(int64_t outputs_, int64_t splines)
        : outputs(outputs_), vectors((outputs_ + WIDTH<T> - 1) / WIDTH<T>),
          chunks((vectors + MOST_VECTORS - 1) / MOST_VECTORS), rows(1 + splines) {}
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

// Calls act with N = count as a compile-time number.
template <int N = 1, class Act>
inline void with_count(int64_t count, const Act& act) {
    if constexpr (N < MOST_VECTORS) {
        if (count != N) return with_count<N + 1>(count, act);
    }
    act(std::integral_constant<int, N>{});
}

// Per event the first row of coefficients that counts, the K + 1 B-splines of those rows, the base function; slopes of all.
template <class T, int K>
struct Survey {
    typename Exp<T>::Int cell[TILE], row[TILE];
    T value[(K + 1) * TILE], slope[(K + 1) * TILE], base[TILE], base_slope[TILE];
};

// ---- cells: how many of the grid's knots are <= x ------------------------------------------------------------------

template <class T>
using Ints = typename Exp<T>::Int;

template <class T>
void find_among_few(const T* x, int events, const T* table, int intervals, Ints<T>* cell) {
    for (int e = 0; e < events; e += WIDTH<T>) {
        const Wide<T> at = load<Wide<T>>(x + e);
        WideInt<T> passed = WideInt<T>{};
        for (int m = 0; m <= intervals; ++m) passed -= (WideInt<T>)(at >= splat<Wide<T>>(table[m]));
        store(cell + e, passed);
    }
}

// Looking up the guide and comparing with the few knots of that bin (BIN of them at most).
template <class T, int BIN>
void find_by_guide(const T* x, int events, const T* table, int intervals, Ints<T>* cell) {
    const T* guide = table + hepkan::guide_offset(intervals);
    const T low = guide[0], inverse = guide[1], last = T(hepkan::guide_bins(intervals) - 1);
    const T* first = guide + hepkan::GUIDE_HEADER;
#pragma GCC ivdep
    for (int e = 0; e < events; ++e) {
        T bin = (x[e] - low) * inverse;
        bin = bin > T(0) ? bin : T(0);
        bin = bin < last ? bin : last;
        const auto start = static_cast<Ints<T>>(first[static_cast<Ints<T>>(bin)]);
        Ints<T> found = start;
        for (int n = 0; n < BIN; ++n) found += x[e] >= table[start + n] ? 1 : 0;
        cell[e] = found;
    }
}

// What single precision does sixteen events at a time, its tables in registers.
#if defined(__AVX512F__) && !defined(__clang__)
constexpr bool SIXTEEN = true;

inline void find_in_tree(const float* x, int events, const float* tree, std::int32_t* cell) {
    using V = Wide<float>;
    using IV = WideInt<float>;
    for (int e = 0; e < events; e += 16) {
        const V at = load<V>(x + e);
        IV node = IV{};
        for (int level = 0; level < 5; ++level)
            node = node + node - (IV)(at >= __builtin_shuffle(load<V>(tree + hepkan::tree_level(level)), node));
        const float* last = tree + hepkan::tree_level(5);
        node = node + node - (IV)(at >= __builtin_shuffle(load<V>(last), load<V>(last + 16), node));
        store(cell + e, node);
    }
}

template <int K, bool SLOPES>
void evaluate_columns(const float* x, int events, const float* columns, Survey<float, K>& out) {
    using V = Wide<float>;
    for (int e = 0; e < events; e += 16) {
        const WideInt<float> cell = load<WideInt<float>>(out.cell + e);
        const auto lookup = [&](int column) { return __builtin_shuffle(load<V>(columns + 16 * column), cell); };
        const V scale = lookup(1), u = (load<V>(x + e) - lookup(0)) * scale;
        store(out.row + e, __builtin_convertvector(lookup(2), WideInt<float>));
        for (int r = 0; r <= K; ++r) {
            V v = lookup(3 + r + K * (K + 1)), d = V{};
            for (int p = K - 1; p >= 0; --p) {
                if (SLOPES) d = p == K - 1 ? v : d * u + v;
                v = v * u + lookup(3 + r + p * (K + 1));
            }
            store(out.value + r * TILE + e, v);
            if (SLOPES) store(out.slope + r * TILE + e, d * scale);
        }
    }
}
#else
constexpr bool SIXTEEN = false;
inline void find_in_tree(const float*, int, const float*, std::int32_t*) {}
template <int K, bool SLOPES>
void evaluate_columns(const float*, int, const float*, Survey<float, K>&) {}
#endif

// ---- the B-splines of those cells ----------------------------------------------------------------------------------

template <class T, int K, bool SLOPES>
void evaluate(const T* x, int events, const T* cells, Survey<T, K>& out) {
    constexpr int L = hepkan::lanes(K);
    using Few = typename Vector<T, L>::type;
    for (int e = 0; e < events; ++e) {
        const T* cell = cells + out.cell[e] * hepkan::cell_numbers(K);
        const Few u = splat<Few>((x[e] - cell[0]) * cell[1]);
        out.row[e] = static_cast<Ints<T>>(cell[2]);
        Few v = load<Few>(cell + (K + 1) * L), d = Few{};
        for (int p = K; p >= 1; --p) {
            if (SLOPES) d = p == K ? v : d * u + v;
            v = v * u + load<Few>(cell + p * L);
        }
        d *= splat<Few>(cell[1]);
        for (int r = 0; r <= K; ++r) {
            out.value[r * TILE + e] = v[r];
            if (SLOPES) out.slope[r * TILE + e] = d[r];
        }
    }
}

// x must have whole vectors of numbers, as many as `events`.
template <class T, int K>
void find_cells(const T* x, int events, const T* table, int intervals, Ints<T>* cell) {
    constexpr bool sixteen = SIXTEEN && sizeof(T) == sizeof(float);
    const T* registers = table + hepkan::registers_offset(intervals, K);
    const bool few = intervals <= hepkan::FEW;
    const int most = few ? 0 : hepkan::guide_most(table, intervals);
    if (few) find_among_few(x, events, table, intervals, cell);
    else if (sixteen && intervals <= hepkan::TREE_INTERVALS) {
        if constexpr (sizeof(T) == sizeof(float)) find_in_tree(x, events, registers, cell);
    }
    else if (most == 1) find_by_guide<T, 1>(x, events, table, intervals, cell);
    else if (most > 1) find_by_guide<T, hepkan::GUIDE_MOST>(x, events, table, intervals, cell);
    else for (int e = 0; e < events; ++e) cell[e] = hepkan::locate(table, intervals, x[e]);
}

// x must have whole vectors of numbers.
template <class T, int K, bool SLOPES>
void survey(const T* x, int events, const T* table, int intervals, int base, Survey<T, K>& out) {
    events = (events + WIDTH<T> - 1) / WIDTH<T> * WIDTH<T>;
    find_cells<T, K>(x, events, table, intervals, out.cell);
    const T* registers = table + hepkan::registers_offset(intervals, K);
    const bool few = intervals <= hepkan::FEW, sixteen = SIXTEEN && sizeof(T) == sizeof(float);
    if (few && sixteen) {
        if constexpr (sizeof(T) == sizeof(float)) evaluate_columns<K, SLOPES>(x, events, registers, out);
    } else {
        evaluate<T, K, SLOPES>(x, events, table + hepkan::cells_offset(intervals), out);
    }
    for (int e = 0; e < events; e += WIDTH<T>) {
        Wide<T> value, slope;
        base_function<T>(base, load<Wide<T>>(x + e), value, slope);
        store(out.base + e, value), store(out.base_slope + e, slope);
    }
}

// ---- the rows of one input and chunk, padded to whole vectors ------------------------------------------------------

template <class T>
void pack(const T* spline, const T* base, int64_t splines, int64_t outputs, int64_t size, int64_t stride, T* rows) {
    for (int64_t o = 0; o < size; o += WIDTH<T>) {
        store(rows + o, base ? load_part(base + o, outputs - o) : Wide<T>{});
        for (int64_t m = 0; m < splines; ++m) store(rows + (1 + m) * size + o, load_part(spline + m * stride + o, outputs - o));
    }
}

// Every event touches the row of base weights, so a sum there that is not finite means that a NaN or an infinity has met
// this input and output; then all coefficients get NaN, as they do when all rows are touched.
template <class T>
void unpack(const T* rows, int64_t splines, int64_t outputs, int64_t size, int64_t stride, T* spline, T* base) {
    for (int64_t o = 0; o < size; o += WIDTH<T>) {
        const Wide<T> all = load<Wide<T>>(rows + o);
        if (base) store_part(base + o, all, outputs - o);
        for (int64_t m = 0; m < splines; ++m)
            store_part(spline + m * stride + o, load<Wide<T>>(rows + (1 + m) * size + o) + (all - all), outputs - o);
    }
}

// ---- arithmetic along the outputs, N vectors at a time -------------------------------------------------------------

template <class T, int K, int N>
struct Rows {
    using V = Wide<T>;
    static constexpr int W = WIDTH<T>, SIZE = N * W;

    static void forward(const Survey<T, K>& s, int events, const T* rows, T* y) {
        V base[N];
        for (int n = 0; n < N; ++n) base[n] = load<V>(rows + n * W);
        for (int e = 0; e < events; ++e, y += SIZE) {
            const T* a = rows + (1 + s.row[e]) * SIZE;
            const V b = splat<V>(s.base[e]);
            V sum[N];
            for (int n = 0; n < N; ++n) sum[n] = load<V>(y + n * W) + b * base[n];
            for (int r = 0; r <= K; ++r) {
                const V value = splat<V>(s.value[r * TILE + e]);
                for (int n = 0; n < N; ++n) sum[n] += value * load<V>(a + r * SIZE + n * W);
            }
            for (int n = 0; n < N; ++n) store(y + n * W, sum[n]);
        }
    }

    // dy times the slopes of all outputs, one vector per event in `sums`; added when this is not the FIRST chunk.
    template <bool FIRST>
    static void slopes(const Survey<T, K>& s, int events, const T* rows, const T* dy, T* sums) {
        V base[N];
        for (int n = 0; n < N; ++n) base[n] = load<V>(rows + n * W);
        for (int e = 0; e < events; ++e, dy += SIZE, sums += W) {
            const T* a = rows + (1 + s.row[e]) * SIZE;
            const V b = splat<V>(s.base_slope[e]);
            V slope[N], total = V{};
            for (int n = 0; n < N; ++n) slope[n] = b * base[n];
            for (int r = 0; r <= K; ++r) {
                const V d = splat<V>(s.slope[r * TILE + e]);
                for (int n = 0; n < N; ++n) slope[n] += d * load<V>(a + r * SIZE + n * W);
            }
            for (int n = 0; n < N; ++n) total += slope[n] * load<V>(dy + n * W);
            store(sums, FIRST ? total : load<V>(sums) + total);
        }
    }

    // Adds the base function and the B-splines times dy to their rows.
    static void moments(const Survey<T, K>& s, int events, const T* dy, T* rows) {
        V base[N];
        for (int n = 0; n < N; ++n) base[n] = load<V>(rows + n * W);
        for (int e = 0; e < events; ++e, dy += SIZE) {
            T* to = rows + (1 + s.row[e]) * SIZE;
            const V b = splat<V>(s.base[e]);
            V g[N];
            for (int n = 0; n < N; ++n) g[n] = load<V>(dy + n * W), base[n] += b * g[n];
            for (int r = 0; r <= K; ++r) {
                const V value = splat<V>(s.value[r * TILE + e]);
                for (int n = 0; n < N; ++n) store(to + r * SIZE + n * W, load<V>(to + r * SIZE + n * W) + value * g[n]);
            }
        }
        for (int n = 0; n < N; ++n) store(rows + n * W, base[n]);
    }
};

}  // namespace

#endif
