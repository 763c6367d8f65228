// Vectors of the compiler's widest kind, and what the kernel does along them: transposition, exp, base functions.
#ifndef HEPKAN_VECTORS_HPP
#define HEPKAN_VECTORS_HPP

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__AVX512F__)
#include <immintrin.h>
#endif

#if !defined(__GNUC__)
#error "needs the vector extensions of GCC or Clang"
#endif

namespace {

using std::int64_t;
using std::size_t;

#if defined(__AVX512F__)
constexpr int VECTOR_BYTES = 64;
#elif defined(__AVX__)
constexpr int VECTOR_BYTES = 32;
#else
constexpr int VECTOR_BYTES = 16;
#endif

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

// The first `count` numbers, zeros after them; and the way back.
#if defined(__AVX512F__)
inline unsigned mask_of(int64_t count, int width) { return count >= width ? (1u << width) - 1u : (1u << count) - 1u; }
inline Wide<float> load_part(const float* p, int64_t count) {
    return (Wide<float>)_mm512_maskz_loadu_ps(static_cast<__mmask16>(mask_of(count, 16)), p);
}
inline Wide<double> load_part(const double* p, int64_t count) {
    return (Wide<double>)_mm512_maskz_loadu_pd(static_cast<__mmask8>(mask_of(count, 8)), p);
}
inline void store_part(float* p, const Wide<float>& v, int64_t count) {
    _mm512_mask_storeu_ps(p, static_cast<__mmask16>(mask_of(count, 16)), (__m512)v);
}
inline void store_part(double* p, const Wide<double>& v, int64_t count) {
    _mm512_mask_storeu_pd(p, static_cast<__mmask8>(mask_of(count, 8)), (__m512d)v);
}
#else
template <class T>
inline Wide<T> load_part(const T* p, int64_t count) {
    if (count >= WIDTH<T>) return load<Wide<T>>(p);
    T padded[WIDTH<T>] = {};
    for (int64_t n = 0; n < count; ++n) padded[n] = p[n];
    return load<Wide<T>>(padded);
}
template <class T>
inline void store_part(T* p, const Wide<T>& v, int64_t count) {
    if (count >= WIDTH<T>) return store(p, v);
    for (int64_t n = 0; n < count; ++n) p[n] = v[n];
}
#endif

// s in every lane; subtracting zero costs nothing, adding it would (because of -0).
template <class V, class T>
inline V splat(T s) {
    return s - V{};
}

// ---- exp and the base function -----------------------------------------------------------------------------------

template <class T>
struct Exp;
template <>
struct Exp<float> {
    using Int = std::int32_t;
    static constexpr int degree = 6, mantissa = 23;
    static constexpr float limit = 80.0f, magic = 12582912.0f, ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
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
    Wide<T> sum = rest * T(1.0 / E::degree) + T(1);
    for (int k = E::degree - 1; k >= 1; --k) sum = sum * (rest * T(1.0 / k)) + T(1);
    return sum * (Wide<T>)((WideInt<T>)(n - n + T(1)) + (((WideInt<T>)shifted) << E::mantissa));
}

// 1 / d for 1 <= d <= 1e35. In single precision three steps of Newton from a guess by the bits, which is faster than
// the processor's division; the last one is 2e-7 off at most.
inline Wide<double> inverse(Wide<double> d) { return 1.0 / d; }
inline Wide<float> inverse(Wide<float> d) {
    Wide<float> guess = (Wide<float>)(0x7EF311C7 - (WideInt<float>)d);
    for (int n = 0; n < 3; ++n) guess = guess * (2.0f - d * guess);
    return guess;
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
        Wide<T> s = inverse(T(1) + e);
        s = x < -bound ? zero : s;
        const Wide<T> rest = x > bound ? zero : e * s;  // 1 - s without cancellation
        value = x * s;
        slope = s * (T(1) + x * rest);
    } else {
        value = base == LINEAR ? x : x * T(0);
        slope = base == LINEAR ? x * T(0) + T(1) : x * T(0);
    }
}

// ---- rearranging lanes -------------------------------------------------------------------------------------------

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

// Rows and columns of a square of vectors change places.
template <class V, class IV, int N, int HALF = 1>
inline void transpose_square(V* rows) {
    if constexpr (HALF < N) {
        constexpr std::make_integer_sequence<int, N> lanes{};
        for (int n = 0; n < N; ++n)
            if (n / HALF % 2 == 0) {
                const V a = rows[n], b = rows[n + HALF];
                rows[n] = blocks<V, IV, HALF, false>(a, b, lanes);
                rows[n + HALF] = blocks<V, IV, HALF, true>(a, b, lanes);
            }
        transpose_square<V, IV, N, 2 * HALF>(rows);
    }
}

// A square of numbers, rows `from_stride` apart; only the first `columns` become rows of `to`.
template <class T>
inline void transpose_square(const T* from, int64_t from_stride, T* to, int64_t to_stride, int64_t columns) {
    constexpr int W = WIDTH<T>;
    Wide<T> rows[W];
    for (int n = 0; n < W; ++n) rows[n] = load<Wide<T>>(from + n * from_stride);
    transpose_square<Wide<T>, WideInt<T>, W>(rows);
    if (columns >= W)
        for (int n = 0; n < W; ++n) store(to + n * to_stride, rows[n]);
    else
        for (int n = 0; n < columns; ++n) store(to + n * to_stride, rows[n]);
}

}  // namespace

#endif
