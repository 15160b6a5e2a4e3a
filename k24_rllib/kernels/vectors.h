/* Vectors of floats in GCC's vector extension, which Clang knows too, as wide as the processor's widest registers: what
   is wider than those the compiler keeps in memory, which made a GRU's step ten times as slow with AVX2. */

#ifndef K24_VECTORS_H
#define K24_VECTORS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __AVX512F__
#define LANES 16
#else
#define LANES 8
#endif

typedef float vec __attribute__((vector_size(LANES * sizeof(float)), aligned(4), may_alias));
typedef int32_t ivec __attribute__((vector_size(LANES * sizeof(int32_t)), aligned(4), may_alias));

static inline vec load(const float *p) { return *(const vec *)p; }
static inline void store(float *p, vec v) { *(vec *)p = v; }
static inline vec all(float x) { return x - (vec){0}; }

static inline vec pick(ivec mask, vec yes, vec no) {
    return (vec)((mask & (ivec)yes) | (~mask & (ivec)no));
}

#ifdef __clang__
#define SHUFFLE(a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(a, b, ...) __builtin_shuffle(a, b, (ivec){__VA_ARGS__})
#endif

/* Every other lane of a and b, from the first or the second on; a and b in turn, their first or their second halves. */
#if LANES == 16
#define EVEN(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30)
#define ODD(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31)
#define LOW(a, b) SHUFFLE(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define HIGH(a, b) SHUFFLE(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#else
#define EVEN(a, b) SHUFFLE(a, b, 0, 2, 4, 6, 8, 10, 12, 14)
#define ODD(a, b) SHUFFLE(a, b, 1, 3, 5, 7, 9, 11, 13, 15)
#define LOW(a, b) SHUFFLE(a, b, 0, 8, 1, 9, 2, 10, 3, 11)
#define HIGH(a, b) SHUFFLE(a, b, 4, 12, 5, 13, 6, 14, 7, 15)
#endif

static inline vec larger(vec a, vec b) { return pick(a > b, a, b); }

/* e^x to float's precision for x up to `most`: x = n ln 2 + r, a polynomial in r, and n in the exponent's bits. NaN of
   NaN, and infinity from 88.4 on. */
static inline vec exponential_to(vec x, float most) {
    x = pick(x > most, all(most), x);
    x = pick(x < -87.0f, all(-87.0f), x);
    const float round_to_integer = 12582912.0f; /* 1.5 * 2^23 */
    vec shifted = x * 1.44269504f + round_to_integer;
    vec n = shifted - round_to_integer;
    vec r = x - n * 0.693359375f + n * 2.12194440e-4f;
    vec p = all(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    ivec exponent = ((ivec)shifted - (ivec)all(round_to_integer) + 127) << 23;
    return p * (vec)exponent;
}

static inline vec exponential(vec x) { return exponential_to(x, 87.0f); } /* always finite */
static inline vec sigmoid(vec x) { return 1.0f / (1.0f + exponential_to(-x, 89.0f)); } /* reaches 0 */
static inline vec tangent(vec x) { return 2.0f / (1.0f + exponential(-2.0f * x)) - 1.0f; }

#endif
