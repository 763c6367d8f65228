// Local B-splines on arbitrary non-decreasing knots, for degrees 1 to 5. C++17, no dependency.
//
// A spline with `intervals` intervals and degree K has knots t[0 .. intervals + 2K]; its grid is t[K] .. t[K + intervals].
// Every real x lies in one cell: cell 0 is the left outside, cell m (1 .. intervals) is [t[K+m-1], t[K+m]), cell
// intervals + 1 is the right outside with the right edge. In each cell the K+1 functions that may differ from zero are
// polynomials of u = (x - origin) * scale, |u| <= 1/2; outside the grid they are the tangents at the edge, so one
// evaluation rule serves everywhere. The local origin keeps float32 accurate next to the knots and far from zero.
#ifndef HEPKAN_SPLINE_HPP
#define HEPKAN_SPLINE_HPP

#include <cstddef>
#include <limits>

namespace hepkan {

// Lanes that hold the K+1 functions, and numbers in one cell: a header (origin, scale, row) and K+1 coefficient rows.
constexpr int lanes(int degree) { return degree <= 3 ? 4 : 8; }
constexpr int cell_numbers(int degree) { return lanes(degree) * (degree + 2); }

// The table of one input: the grid's knots with NaN after them (no x has passed those), the guide, the cells, and what a
// vector of 16 can look up in registers. Up to FEW intervals x is compared with every knot and there is no guide.
constexpr int FEW = 12;
//
// The guide finds the cell of x on a long grid in the same time as on a short one. It divides the grid's range into
// equal bins and tells how many knots lie below each; only the knots of the bin itself remain to be compared. Its header
// has the range's low end, bins per unit, and the most knots in a bin (0 when above GUIDE_MOST: then bisection is used).
// See Chen and Asau, "On generating random variates from an empirical distribution", AIIE Trans. 6 (1974) 163.
constexpr int GUIDE_HEADER = 8, GUIDE_MOST = 4;
inline int guide_bins(int intervals) { return intervals <= FEW ? 0 : (4 * intervals + 7) / 8 * 8; }

// In registers: up to FEW intervals the numbers of the cells in columns (origin, scale, row, then the coefficients), up to
// TREE_INTERVALS the knots as a search tree of TREE_LEVELS levels.
constexpr int TREE_LEVELS = 6, TREE_INTERVALS = (1 << TREE_LEVELS) - 2, COLUMN = 16;
constexpr int tree_level(int level) { return 16 * level; }
inline int register_numbers(int intervals, int degree) {
    return intervals <= FEW ? COLUMN * (3 + (degree + 1) * (degree + 1)) : intervals <= TREE_INTERVALS ? 16 * (TREE_LEVELS + 1) : 0;
}
inline std::size_t guide_offset(int intervals) {
    return (static_cast<std::size_t>(intervals) + 1 + GUIDE_MOST + 7) / 8 * 8;
}
inline std::size_t cells_offset(int intervals) {
    const int bins = guide_bins(intervals);
    return guide_offset(intervals) + static_cast<std::size_t>(bins > 0 ? GUIDE_HEADER + bins : 0);
}
inline std::size_t registers_offset(int intervals, int degree) {
    return cells_offset(intervals) + (static_cast<std::size_t>(intervals) + 2) * cell_numbers(degree);
}
template <class T>
inline int guide_most(const T* table, int intervals) {
    return static_cast<int>(table[guide_offset(intervals) + 2]);
}
inline std::size_t table_numbers(int intervals, int degree) {
    return registers_offset(intervals, degree) + static_cast<std::size_t>(register_numbers(intervals, degree));
}

// The cell of x: how many of the grid's `intervals + 1` knots are <= x. In [0, intervals + 1] for any x and any knots;
// NaN gives 0, whose polynomials then return NaN.
template <class T>
inline int locate(const T* grid, int intervals, T x) {
    int cell = 0;
    for (int rest = intervals + 1; rest > 0;) {
        const int half = rest / 2;
        const bool right = x >= grid[cell + half];
        cell = right ? cell + half + 1 : cell;
        rest = right ? rest - half - 1 : half;
    }
    return cell;
}

// Coefficients c[power][function] of the K+1 functions on [t[0], t[1]) in u = (x - origin) / (t[1] - t[0]): the
// Cox-de Boor recursion carried out on polynomials. Every denominator contains the (non-empty) interval.
template <int K>
inline void cell_polynomials(const double* t, double origin, double (&c)[K + 1][K + 1]) {
    for (auto& row : c)
        for (double& number : row) number = 0.0;
    const double width = t[1] - t[0];
    c[0][0] = 1.0;
    for (int s = 1; s <= K; ++s) {
        double carried[K + 1] = {};
        for (int r = 0; r < s; ++r) {
            const double lower = t[r + 1 - s], upper = t[r + 1];
            double scaled[K + 1], next[K + 1];
            for (int p = 0; p <= K; ++p) scaled[p] = c[p][r] / (upper - lower);
            for (int p = 0; p <= K; ++p) {
                const double below = p > 0 ? scaled[p - 1] * width : 0.0;
                c[p][r] = carried[p] + (upper - origin) * scaled[p] - below;
                next[p] = (origin - lower) * scaled[p] + below;
            }
            for (int p = 0; p <= K; ++p) carried[p] = next[p];
        }
        for (int p = 0; p <= K; ++p) c[p][s] = carried[p];
    }
}

// The tangent of polynomials c at u, as polynomials of (x - its place).
template <int K>
inline void tangent(const double (&c)[K + 1][K + 1], double u, double width, double (&line)[K + 1][K + 1]) {
    for (int r = 0; r <= K; ++r) {
        double v = c[K][r], d = 0.0;
        for (int p = K - 1; p >= 0; --p) d = d * u + v, v = v * u + c[p][r];
        line[0][r] = v, line[1][r] = d / width;
    }
}

template <int K, class T>
inline void store_cell(T* cell, double origin, double scale, int row, const double (&c)[K + 1][K + 1]) {
    constexpr int L = lanes(K);
    for (int n = 0; n < cell_numbers(K); ++n) cell[n] = T(0);
    cell[0] = T(origin), cell[1] = T(scale), cell[2] = T(row);
    for (int p = 0; p <= K; ++p)
        for (int r = 0; r <= K; ++r) cell[(p + 1) * L + r] = T(c[p][r]);
}

// The bin of x: monotone in x, whatever the rounding, so a knot of a lower bin lies below x.
template <class T>
inline int guide_bin(T x, T low, T inverse, int bins) {
    T bin = (x - low) * inverse;
    bin = bin > T(0) ? bin : T(0);
    bin = bin < T(bins - 1) ? bin : T(bins - 1);
    return static_cast<int>(bin);
}

template <class T>
inline void fill_guide(const T* grid, int intervals, T* guide) {
    const int bins = guide_bins(intervals);
    const T low = grid[0], inverse = T(bins) / (grid[intervals] - low);
    T* first = guide + GUIDE_HEADER;
    for (int n = 0; n < GUIDE_HEADER + bins; ++n) guide[n] = T(0);
    guide[0] = low, guide[1] = inverse;
    for (int m = 0; m <= intervals; ++m) first[guide_bin(grid[m], low, inverse, bins)] += T(1);
    T below = T(0), most = T(0);
    for (int n = 0; n < bins; ++n) {
        const T here = first[n];
        most = here > most ? here : most;
        first[n] = below, below += here;
    }
    guide[2] = most <= T(GUIDE_MOST) ? most : T(0);
}

// Node j of a level is key (2 j + 1) 2^(last level - level) - 1 of the sorted knots; knots that are missing are NaN.
template <class T>
inline void fill_tree(const T* grid, int intervals, T* tree) {
    for (int level = 0; level < TREE_LEVELS; ++level)
        for (int j = 0; j < 1 << level; ++j) {
            const int knot = ((2 * j + 1) << (TREE_LEVELS - 1 - level)) - 1;
            tree[tree_level(level) + j] = knot <= intervals ? grid[knot] : std::numeric_limits<T>::quiet_NaN();
        }
}

template <int K, class T>
inline void fill_columns(int intervals, const T* cells, T* columns) {
    for (int m = 0; m < intervals + 2; ++m) {
        const T* cell = cells + m * static_cast<std::size_t>(cell_numbers(K));
        T* column = columns + m;
        for (int n = 0; n < 3; ++n, column += COLUMN) *column = cell[n];
        for (int p = 0; p <= K; ++p)
            for (int r = 0; r <= K; ++r, column += COLUMN) *column = cell[(p + 1) * lanes(K) + r];
    }
}

// Fills the table of one input. The polynomials are made in double whatever T is. Empty intervals are never located;
// a grid without any non-empty interval gives a spline that is zero.
template <int K, class T>
inline void fill_table(const T* knots, int intervals, T* table) {
    int first = -1, last = -1;
    T* cells = table + cells_offset(intervals);
    double c[K + 1][K + 1] = {}, left[K + 1][K + 1] = {}, right[K + 1][K + 1] = {};
    for (int m = 0; m < intervals; ++m) {
        double t[2 * K];
        for (int n = 0; n < 2 * K; ++n) t[n] = knots[m + 1 + n];
        const double width = t[K] - t[K - 1];
        T* cell = cells + (m + 1) * static_cast<std::size_t>(cell_numbers(K));
        if (!(width > 0)) {
            const double zero[K + 1][K + 1] = {};
            store_cell<K>(cell, t[K - 1], 0.0, m, zero);
            continue;
        }
        const double origin = T(t[K - 1] + 0.5 * width);
        cell_polynomials<K>(t + K - 1, origin, c);
        store_cell<K>(cell, origin, 1.0 / width, m, c);
        if (first < 0) tangent<K>(c, (t[K - 1] - origin) / width, width, left);
        tangent<K>(c, (t[K] - origin) / width, width, right);
        if (first < 0) first = m;
        last = m;
    }
    if (first < 0) first = last = 0;
    for (int m = 0; m <= intervals; ++m) table[m] = knots[K + m];
    for (std::size_t n = static_cast<std::size_t>(intervals) + 1; n < guide_offset(intervals); ++n)
        table[n] = std::numeric_limits<T>::quiet_NaN();
    if (guide_bins(intervals) > 0) fill_guide(table, intervals, table + guide_offset(intervals));
    store_cell<K>(cells, double(knots[K]), 1.0, first, left);
    store_cell<K>(cells + (intervals + 1) * static_cast<std::size_t>(cell_numbers(K)), double(knots[K + intervals]), 1.0,
                  last, right);
    T* registers = table + registers_offset(intervals, K);
    for (int n = 0; n < register_numbers(intervals, K); ++n) registers[n] = T(0);
    if (intervals <= FEW) fill_columns<K>(intervals, cells, registers);
    else if (intervals <= TREE_INTERVALS) fill_tree(table, intervals, registers);
}

// Values and slopes at x of the functions row, row + 1, ..., row + K; returns row.
template <int K, class T>
inline int local_basis(const T* table, int intervals, T x, T* value, T* slope) {
    constexpr int L = lanes(K);
    const int index = locate(table, intervals, x);
    const T* cell = table + cells_offset(intervals) + index * static_cast<std::size_t>(cell_numbers(K));
    const T u = (x - cell[0]) * cell[1];
    for (int r = 0; r <= K; ++r) {
        T v = cell[(K + 1) * L + r], d = T(0);
        for (int p = K - 1; p >= 0; --p) d = d * u + v, v = v * u + cell[(p + 1) * L + r];
        value[r] = v, slope[r] = d * cell[1];
    }
    return static_cast<int>(cell[2]);
}

}  // namespace hepkan

#endif
