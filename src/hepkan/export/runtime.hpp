namespace detail {

// exp in plain arithmetic, so that compilers run it on several inputs at once; to rounding, NaN stays NaN.
template <class T>
inline T exponential(T x) {
    constexpr bool single = sizeof(T) == sizeof(float);
    constexpr T low = single ? T(-87) : T(-708), high = single ? T(88) : T(709);
    constexpr T high_ln2 = single ? T(0.693359375) : T(6.93147180369123816490e-01);
    constexpr T low_ln2 = single ? T(-2.12194440e-4) : T(1.90821492927058770002e-10);
    const T inside = x < low ? low : (x > high ? high : x);
    const T turns = inside * T(1.4426950408889634);
    const int n = static_cast<int>(turns == turns ? turns + (turns < T(0) ? T(-0.5) : T(0.5)) : T(0));
    const T r = (inside - T(n) * high_ln2) - T(n) * low_ln2;
    T p = T(1);
    constexpr int terms = single ? 7 : 13;
    for (int k = terms; k > 0; --k) p = p * (r * (T(1) / T(k))) + T(1);
    if constexpr (single) {
        const std::uint32_t bits = static_cast<std::uint32_t>(n + 127) << 23;
        float power;
        std::memcpy(&power, &bits, sizeof power);
        return p * power;
    } else {
        const std::uint64_t bits = static_cast<std::uint64_t>(n + 1023) << 52;
        double power;
        std::memcpy(&power, &bits, sizeof power);
        return static_cast<T>(p * power);
    }
}

template <class T>
inline T sigmoid(T x) {
    return T(1) / (T(1) + exponential(-x));
}

// N increasing numbers are found in one table: up to 16 alone, more in blocks of 16 after the first number of each block.
// The last block ends with the largest float.
constexpr int blocks(int n) { return (n + 15) / 16; }
constexpr int ladder(int n) { return n <= 16 ? n : 17 * blocks(n); }

// How many of them are <= x; NaN counts none. Comparisons without branches, several at once.
template <int N, class T>
inline int count(const T* t, T x) {
    int passed = 0;
    if constexpr (N <= 16) {
        for (int m = 0; m < N; ++m) passed += x >= t[m];
        return passed;
    } else {
        int block = 0;
        for (int m = 1; m < blocks(N); ++m) block += x >= t[m];
        const T* inside = t + blocks(N) + 16 * block;
        for (int m = 0; m < 16; ++m) passed += x >= inside[m];
        passed += 16 * block;
        return passed < N ? passed : N;
    }
}

// The inputs among all features.
template <int... C, class T>
inline void select(const T* x, T* z) {
    int n = 0;
    ((z[n++] = x[C]), ...);
}

// Input map: straight between N nodes, constant outside; `places` holds the nodes, `lines` (start, 1 / width, score,
// rise) of each of the N - 1 intervals.
template <int I, int N, class T>
inline void quantile_map(const T* x, const T* places, const T* lines, T* z) {
    for (int i = 0; i < I; ++i) {
        const int passed = count<N>(places + i * ladder(N), x[i]);
        const int interval = passed < 1 ? 0 : (passed > N - 1 ? N - 2 : passed - 1);
        const T* line = lines + (i * (N - 1) + interval) * 4;
        const T share = (x[i] - line[0]) * line[1];
        z[i] = line[2] + (share < T(0) ? T(0) : (share > T(1) ? T(1) : share)) * line[3];
    }
}

template <int I, class T>
inline void standard_map(const T* x, const T* mean, const T* scale, T* z) {
    for (int i = 0; i < I; ++i) z[i] = (x[i] - mean[i]) / scale[i];
}

// Sums over inputs of a spline of degree K on G intervals, and of the base function times its weight. The cell of x is
// found among the knots (cell 0 and cell G + 1 are outside); in it all outputs are polynomials of
// u = (x - origin) * scale, in `power[input][cell][K + 1][outputs]`. BASE is 0 none, 1 linear, 2 silu.
template <int I, int O, int G, int K, int BASE, class T>
inline void splines(const T* x, const T* knots, const T* places, const T* power, const T* weight, const T* bias, T* y) {
    T sum[O];
    for (int o = 0; o < O; ++o) sum[o] = bias[o];
    if constexpr (BASE > 0) {
        T base[I];
        for (int i = 0; i < I; ++i) base[i] = BASE == 1 ? x[i] : x[i] * sigmoid(x[i]);
        for (int i = 0; i < I; ++i)
            for (int o = 0; o < O; ++o) sum[o] += base[i] * weight[i * O + o];
    } else {
        static_cast<void>(weight);
    }
    for (int i = 0; i < I; ++i) {
        const int cell = i * (G + 2) + count<G + 1>(knots + i * ladder(G + 1), x[i]);
        const T u = (x[i] - places[2 * cell]) * places[2 * cell + 1];
        const T* a = power + static_cast<std::size_t>(cell) * ((K + 1) * O);
        for (int o = 0; o < O; ++o) {
            T value = a[K * O + o];
            for (int p = K - 1; p >= 0; --p) value = value * u + a[p * O + o];
            sum[o] += value;
        }
    }
    for (int o = 0; o < O; ++o) y[o] = sum[o];
}

// The last P outputs of a layer are products of two sums each.
template <int ALONE, int P, class T>
inline void products(const T* sums, T* y) {
    for (int o = 0; o < ALONE; ++o) y[o] = sums[o];
    for (int p = 0; p < P; ++p) y[ALONE + p] = sums[ALONE + 2 * p] * sums[ALONE + 2 * p + 1];
}

template <int I, int O, class T>
inline void dense(const T* x, const T* weight, const T* bias, T* y) {
    T sum[O];
    for (int o = 0; o < O; ++o) sum[o] = bias[o];
    for (int i = 0; i < I; ++i)
        for (int o = 0; o < O; ++o) sum[o] += x[i] * weight[i * O + o];
    for (int o = 0; o < O; ++o) y[o] = sum[o];
}

// KIND is 0 relu, 1 silu, 2 tanh, 3 gelu; NaN stays NaN.
template <int N, int KIND, class T>
inline void activate(T* x) {
    for (int n = 0; n < N; ++n) {
        if constexpr (KIND == 0) x[n] = x[n] < T(0) ? T(0) : x[n];
        if constexpr (KIND == 1) x[n] *= sigmoid(x[n]);
        if constexpr (KIND == 2) x[n] = std::tanh(x[n]);
        if constexpr (KIND == 3) x[n] *= T(0.5) * (T(1) + std::erf(x[n] * T(0.7071067811865476)));
    }
}

template <int N, class T>
inline void rescale(T* y, const T* mean, const T* scale) {
    for (int n = 0; n < N; ++n) y[n] = mean[n] + scale[n] * y[n];
}

template <int N, class T>
inline void softmax(T* y) {
    T most = y[0], total = T(0);
    for (int n = 1; n < N; ++n) most = y[n] > most ? y[n] : most;
    for (int n = 0; n < N; ++n) total += y[n] = exponential(y[n] - most);
    for (int n = 0; n < N; ++n) y[n] /= total;
}

}  // namespace detail
