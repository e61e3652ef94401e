/* Vectors of float32 lanes, and maps of float32 or bfloat16 read and written through them.
 *
 * GCC's vector extensions, compiled to AVX-512, AVX2 or NEON. A vector is one register: GCC keeps
 * wider ones in memory. `PAIRED` is 1 where the processor multiplies bfloat16 pairs (AVX512_BF16).
 */
#ifndef OVERLOCK_LANES_H
#define OVERLOCK_LANES_H

#include <omp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AVX2__
#include <immintrin.h>
#endif

#ifdef __AVX512BF16__
#define PAIRED 1
#else
#define PAIRED 0
#endif

#if defined(__AVX512BW__) && defined(__AVX512VL__)
#define MASKED_HALVES 1
#else
#define MASKED_HALVES 0
#endif

/* Lanes of a register, and the number of registers, which sums and operands share. */
#if defined(__AVX512F__)
#define LANES 16
#define REGISTERS 32
#elif defined(__AVX2__)
#define LANES 8
#define REGISTERS 16
#elif defined(__aarch64__)
#define LANES 4
#define REGISTERS 32
#else
#define LANES 4
#define REGISTERS 16
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float lanes_t __attribute__((vector_size(4 * LANES)));
typedef int32_t ints_t __attribute__((vector_size(4 * LANES)));
typedef uint32_t words_t __attribute__((vector_size(4 * LANES)));
typedef uint16_t halves_t __attribute__((vector_size(2 * LANES)));

enum { FLOAT32 = 0, BFLOAT16 = 1 };

INLINE int64_t least(int64_t a, int64_t b) { return a < b ? a : b; }
INLINE int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }
INLINE int64_t blocks_of(int64_t size, int64_t block) { return (size + block - 1) / block; }
INLINE int64_t bytes_of(int bfloat16) { return bfloat16 ? 2 : 4; }

INLINE lanes_t filled(float value) { return value - (lanes_t){0}; }
INLINE words_t filled_words(uint32_t value) { return value - (words_t){0}; }

/* float32 lanes: full vectors, or the first `count` lanes and zeros behind them. */
INLINE lanes_t load_floats(const float *source) {
    lanes_t result;
    memcpy(&result, source, sizeof result);
    return result;
}

/* All bits set in the first `count` lanes, none behind them. */
INLINE ints_t first_lanes(int64_t count) {
    static const int32_t numbers[16] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    ints_t lane;
    memcpy(&lane, numbers, sizeof lane);
    return lane < (int32_t)count;
}

INLINE lanes_t load_some_floats(const float *source, int64_t count) {
#if defined(__AVX512F__)
    return (lanes_t)_mm512_maskz_loadu_ps((__mmask16)((1u << count) - 1), source);
#elif defined(__AVX2__)
    return (lanes_t)_mm256_maskload_ps(source, (__m256i)first_lanes(count));
#else
    lanes_t result = {0};
    memcpy(&result, source, count * sizeof(float));
    return result;
#endif
}

INLINE void store_floats(float *target, lanes_t value) { memcpy(target, &value, sizeof value); }

/* bfloat16 is the upper half of a float32. */
INLINE words_t widened(halves_t halves) { return __builtin_convertvector(halves, words_t); }
INLINE lanes_t from_halves(halves_t halves) { return (lanes_t)(widened(halves) << 16); }

INLINE halves_t to_halves(lanes_t value) {
#if PAIRED
    return (halves_t)_mm512_cvtneps_pbh((__m512)value);
#else
    words_t bits = (words_t)value;
    words_t rounded = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16; /* to the nearest, ties to even */
    words_t is_nan = (words_t)((bits & 0x7fffffff) > 0x7f800000);
    return __builtin_convertvector((is_nan & (bits >> 16 | 0x40)) | (~is_nan & rounded), halves_t);
#endif
}

/* Elements of a float32 or bfloat16 map; `at` is an index, `count` the elements that remain. */
INLINE halves_t load_halves(const void *map, int64_t at, int64_t count) {
    const uint16_t *source = (const uint16_t *)map + at;
    halves_t result = {0};
    if (count >= LANES) {
        memcpy(&result, source, sizeof result);
        return result;
    }
#if MASKED_HALVES
    return (halves_t)_mm256_maskz_loadu_epi16((__mmask16)((1u << count) - 1), source);
#else
    memcpy(&result, source, count * sizeof(uint16_t));
    return result;
#endif
}

INLINE void store_halves(void *map, int64_t at, int64_t count, halves_t halves) {
    uint16_t *target = (uint16_t *)map + at;
    if (count >= LANES) {
        memcpy(target, &halves, sizeof halves);
        return;
    }
#if MASKED_HALVES
    _mm256_mask_storeu_epi16(target, (__mmask16)((1u << count) - 1), (__m256i)halves);
#else
    memcpy(target, &halves, count * sizeof(uint16_t));
#endif
}

INLINE lanes_t load(const void *map, int64_t at, int64_t count, const int bfloat16) {
    if (bfloat16) {
        return from_halves(load_halves(map, at, count));
    }
    const float *source = (const float *)map + at;
    return count >= LANES ? load_floats(source) : load_some_floats(source, count);
}

INLINE void store(void *map, int64_t at, int64_t count, lanes_t value, const int bfloat16) {
    if (bfloat16) {
        store_halves(map, at, count, to_halves(value));
        return;
    }
    float *target = (float *)map + at;
    if (count >= LANES) {
        memcpy(target, &value, sizeof value);
        return;
    }
#ifdef __AVX512F__
    _mm512_mask_storeu_ps(target, (__mmask16)((1u << count) - 1), (__m512)value);
#else
    memcpy(target, &value, count * sizeof(float));
#endif
}

/* 1 in the first `count` lanes, 0 behind them. */
INLINE lanes_t ones(int64_t count) {
    return (lanes_t)((ints_t)filled(1.0f) & first_lanes(count));
}

INLINE float sum_of(lanes_t value) {
#if defined(__AVX512F__)
    return _mm512_reduce_add_ps((__m512)value);
#elif defined(__AVX2__)
    const __m256 all = (__m256)value;
    __m128 sums = _mm_add_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    sums = _mm_add_ps(sums, _mm_movehl_ps(sums, sums));
    return _mm_cvtss_f32(_mm_add_ss(sums, _mm_movehdup_ps(sums)));
#else
    float total = 0;
    for (int lane = 0; lane < LANES; lane++) {
        total += value[lane];
    }
    return total;
#endif
}

/* Returns b where either is NaN. */
INLINE lanes_t larger(lanes_t a, lanes_t b) {
#if defined(__AVX512F__)
    return (lanes_t)_mm512_max_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (lanes_t)_mm256_max_ps((__m256)a, (__m256)b);
#else
    ints_t first = a > b;
    return (lanes_t)(((ints_t)a & first) | ((ints_t)b & ~first));
#endif
}

INLINE float largest_of(lanes_t value) {
#if defined(__AVX512F__)
    return _mm512_reduce_max_ps((__m512)value);
#elif defined(__AVX2__)
    const __m256 all = (__m256)value;
    __m128 most = _mm_max_ps(_mm256_castps256_ps128(all), _mm256_extractf128_ps(all, 1));
    most = _mm_max_ps(most, _mm_movehl_ps(most, most));
    return _mm_cvtss_f32(_mm_max_ss(most, _mm_movehdup_ps(most)));
#else
    float result = value[0];
    for (int lane = 1; lane < LANES; lane++) {
        result = value[lane] > result ? value[lane] : result;
    }
    return result;
#endif
}

/* Returns b where either is NaN. */
INLINE lanes_t smaller(lanes_t a, lanes_t b) {
#if defined(__AVX512F__)
    return (lanes_t)_mm512_min_ps((__m512)a, (__m512)b);
#elif defined(__AVX2__)
    return (lanes_t)_mm256_min_ps((__m256)a, (__m256)b);
#else
    ints_t first = a < b;
    return (lanes_t)(((ints_t)a & first) | ((ints_t)b & ~first));
#endif
}

/* exp, relative error 2e-7; 0 below -87, where float32 has subnormals, and 2e38 from 88 on. */
INLINE lanes_t exponential(lanes_t x) {
    x = smaller(x, filled(88.0f));
    const float magic = 12582912.0f; /* 1.5 * 2^23: adding it rounds to an integer */
    lanes_t power = x * 1.44269504f + magic;
    ints_t exponent = (ints_t)power - (int32_t)0x4b400000;
    power -= magic;
    lanes_t r = x - power * 0.693359375f;
    r = r + power * 2.12194440e-4f;
    lanes_t value = 1.9875691500e-4f + (lanes_t){0};
    value = value * r + 1.3981999507e-3f;
    value = value * r + 8.3334519073e-3f;
    value = value * r + 4.1665795894e-2f;
    value = value * r + 1.6666665459e-1f;
    value = value * r + 5.0000001201e-1f;
    value = value * r * r + r + 1.0f;
    ints_t result = (ints_t)value + (exponent << 23);
    return (lanes_t)(result & (ints_t)(x > -87.0f));
}

/* 2^x, relative error 3e-6 (half a unit of bfloat16 is 2e-3); NaN stays. */
INLINE lanes_t power_of_two(lanes_t x) {
    x = larger(filled(-126.0f), x);
    const float magic = 12582912.0f;
    lanes_t power = x + magic;
    ints_t exponent = (ints_t)power - (int32_t)0x4b400000;
    lanes_t r = x - (power - magic);
    lanes_t value = 1.3333558e-3f * r + 9.6181291e-3f;
    value = value * r + 5.5504109e-2f;
    value = value * r + 2.4022651e-1f;
    value = value * r + 6.9314718e-1f;
    value = value * r + 1.0f;
    return (lanes_t)((ints_t)value + (exponent << 23));
}

/* GELU with erf by Abramowitz and Stegun's 7.1.26, absolute error 2e-7. */
INLINE lanes_t exact_gelu(lanes_t x) {
    lanes_t magnitude = (lanes_t)((ints_t)x & 0x7fffffff) * 0.70710678f;
    lanes_t t = 1.0f / (1.0f + 0.3275911f * magnitude);
    lanes_t tail = 1.061405429f * t - 1.453152027f;
    tail = tail * t + 1.421413741f;
    tail = tail * t - 0.284496736f;
    tail = tail * t + 0.254829592f;
    tail = tail * t * exponential(-magnitude * magnitude); /* 1 - erf(magnitude) */
    /* 0.5 x (1 + erf): for negative x that is 0.5 x tail, for positive x - 0.5 x tail. */
    ints_t negative = (ints_t)x >> 31;
    lanes_t half = 0.5f * x * tail;
    return (lanes_t)(((ints_t)half & negative) | ((ints_t)(x - half) & ~negative));
}

/* GELU by a polynomial of the normal distribution that ends at 4.5, absolute error 5e-5: a tenth of
 * what bfloat16 rounds at 0.2. No exponential, no division. */
INLINE lanes_t short_gelu(lanes_t x) {
    x = larger(filled(-4.5f), x);
    const lanes_t near = smaller(filled(4.5f), x), square = near * near;
    lanes_t value = 3.00000930e-11f * square - 3.28391436e-9f;
    value = value * square + 1.58025794e-7f;
    value = value * square - 4.43168614e-6f;
    value = value * square + 8.12097296e-5f;
    value = value * square - 1.03625342e-3f;
    value = value * square + 9.58065397e-3f;
    value = value * square - 6.59772708e-2f;
    value = value * square + 3.98708574e-1f;
    return x * (near * value + 0.5f);
}

INLINE lanes_t gelu(lanes_t x, const int bfloat16) {
    return bfloat16 ? short_gelu(x) : exact_gelu(x);
}

/* sum + a * b in every lane: of float32, or of both halves of bfloat16 pairs. */
INLINE lanes_t multiply_add(lanes_t sum, words_t a, words_t b, const int paired) {
#if PAIRED
    if (paired) {
        return (lanes_t)_mm512_dpbf16_ps((__m512)sum, (__m512bh)a, (__m512bh)b);
    }
#endif
    (void)paired;
    return sum + (lanes_t)a * (lanes_t)b;
}

/* Scratch memory of a thread; not checked for NULL: a map is far larger than its scratch. */
INLINE void *scratch(int64_t bytes) { return aligned_alloc(64, blocks_of(bytes, 64) * 64); }

/* Scratch memory of a team of threads: one buffer, which every thread gets. */
INLINE void *shared_scratch(int64_t bytes) {
    void *buffer;
#pragma omp single copyprivate(buffer)
    buffer = scratch(bytes);
    return buffer;
}

/* Free it, once all threads have passed the barrier before this call. */
INLINE void free_shared(void *buffer) {
#pragma omp single nowait
    free(buffer);
}

/* Every kernel is a function that each thread of a team calls, and that shares its work out by
 * `omp for`. KERNEL defines two more: the kernel with a team of its own, and as a step of a
 * recorded pass (replay.c), whose arguments are 64-bit words. */
#define KERNEL(name, share, parameters, arguments, words)                                          \
    void name parameters {                                                                         \
        _Pragma("omp parallel") share arguments;                                                   \
    }                                                                                              \
    void name##_step(const int64_t *word) { share words; }
#define POINTER(at) ((void *)(intptr_t)word[at])

#endif
