/* Resizing RGB pixels by Pillow's integer arithmetic: weights of 22 fractional bits, int32 sums,
 * rounded and clipped to uint8 after each pass. Integer sums are the same in any order, so equal
 * weights give equal bits.
 *
 * Single-threaded and stateless: an HTTP worker's parallelism is its requests.
 */
#include "lanes.h"

#define ROWS 16          /* resized together */
#define GROUP (3 * ROWS) /* bytes summed together */
#define FRACTION 22      /* fractional bits of a weight */

/* Vectors no wider than the processor's: GCC keeps wider ones in memory. Without AVX the plain loop
 * vectorises well (NEON) or at half the speed (SSE4). */
#if defined(__AVX512F__)
#define WIDTH 16
#define WIDENED(bytes) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(bytes)))
#elif defined(__AVX2__)
#define WIDTH 8
#define WIDENED(bytes) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(bytes)))
#endif

typedef uint8_t bytes_t __attribute__((vector_size(16)));
typedef uint32_t pixels_t __attribute__((vector_size(16)));

/* Weighted sum of `count` groups of bytes, `step` bytes apart, rounded and clipped. */
INLINE void weighted(
    uint8_t *target, const uint8_t *source, int64_t step, const int32_t *weights, int32_t count) {
    const int32_t half = 1 << (FRACTION - 1);
    int32_t sums[GROUP];
#ifdef WIDTH
    typedef int32_t part_t __attribute__((vector_size(4 * WIDTH)));
    part_t parts[GROUP / WIDTH];
    for (int part = 0; part < GROUP / WIDTH; part++) {
        parts[part] = half - (part_t){0};
    }
    for (int32_t tap = 0; tap < count; tap++, source += step) {
        for (int part = 0; part < GROUP / WIDTH; part++) {
            parts[part] += weights[tap] * (part_t)WIDENED(source + part * WIDTH);
        }
    }
    memcpy(sums, parts, sizeof sums);
#else
    for (int at = 0; at < GROUP; at++) {
        sums[at] = half;
    }
    for (int32_t tap = 0; tap < count; tap++, source += step) {
        for (int at = 0; at < GROUP; at++) {
            sums[at] += weights[tap] * source[at];
        }
    }
#endif
    for (int at = 0; at < GROUP; at++) {
        int32_t value = sums[at] >> FRACTION;
        value = value < 0 ? 0 : value;
        target[at] = (uint8_t)(value > 255 ? 255 : value);
    }
}

/* Transpose 4x4 pixels: four rows of four 4-byte pixels to four columns of 12 bytes. */
INLINE void transpose(const uint8_t *const rows[4], int64_t column, bytes_t transposed[4]) {
    const bytes_t packed = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 0, 0, 0, 0};
    pixels_t a, b, c, d;
    memcpy(&a, rows[0] + 4 * column, sizeof a);
    memcpy(&b, rows[1] + 4 * column, sizeof b);
    memcpy(&c, rows[2] + 4 * column, sizeof c);
    memcpy(&d, rows[3] + 4 * column, sizeof d);
    pixels_t ab = __builtin_shuffle(a, b, (pixels_t){0, 4, 1, 5});
    pixels_t cd = __builtin_shuffle(c, d, (pixels_t){0, 4, 1, 5});
    transposed[0] = (bytes_t)__builtin_shuffle(ab, cd, (pixels_t){0, 1, 4, 5});
    transposed[1] = (bytes_t)__builtin_shuffle(ab, cd, (pixels_t){2, 3, 6, 7});
    ab = __builtin_shuffle(a, b, (pixels_t){2, 6, 3, 7});
    cd = __builtin_shuffle(c, d, (pixels_t){2, 6, 3, 7});
    transposed[2] = (bytes_t)__builtin_shuffle(ab, cd, (pixels_t){0, 1, 4, 5});
    transposed[3] = (bytes_t)__builtin_shuffle(ab, cd, (pixels_t){2, 3, 6, 7});
    for (int each = 0; each < 4; each++) {
        transposed[each] = __builtin_shuffle(transposed[each], packed);
    }
}

/* Lay ROWS rows of 4-byte pixels out column by column, 3 bytes a pixel. */
static void lay_out(const uint8_t *const rows[ROWS], int64_t columns, uint8_t *strip) {
    int64_t blocked = columns / 4 * 4;
    for (int64_t column = 0; column < blocked; column += 4) {
        bytes_t transposed[ROWS / 4][4];
        for (int part = 0; part < ROWS / 4; part++) {
            transpose(rows + 4 * part, column, transposed[part]);
        }
        /* In this order: the next copy overwrites the last 4 of 16 bytes. */
        for (int each = 0; each < 4; each++) {
            for (int part = 0; part < ROWS / 4; part++) {
                memcpy(strip + (column + each) * GROUP + 12 * part, &transposed[part][each], 16);
            }
        }
    }
    for (int64_t column = blocked; column < columns; column++) {
        for (int row = 0; row < ROWS; row++) {
            memcpy(strip + column * GROUP + 3 * row, rows[row] + 4 * column, 3);
        }
    }
}

/* Resize every row.
 *
 * source: (rows, columns) pixels of 4 bytes, red, green, blue and one that is ignored;
 *     `source_step` bytes from one row to the next.
 * starts, counts, weights: for each of the `target_columns`, its first source column, the number of
 *     source columns, and their weights, `taps` elements apart.
 * strip: scratch, GROUP bytes for each column and 4 more.
 * target: (rows, target_columns) pixels of 3 bytes, `target_step` bytes from one row to the next,
 *     at least one more than a row's pixels take.
 */
void overlock_resample_rows(
    const uint8_t *source, const int32_t *starts, const int32_t *counts, const int32_t *weights,
    uint8_t *strip, uint8_t *target, int64_t rows, int64_t columns, int64_t source_step,
    int64_t target_columns, int64_t taps, int64_t target_step) {
    for (int64_t first = 0; first < rows; first += ROWS) {
        int64_t height = least(ROWS, rows - first);
        const uint8_t *sources[ROWS];
        for (int64_t row = 0; row < ROWS; row++) {
            sources[row] = source + (first + least(row, height - 1)) * source_step;
        }
        lay_out(sources, columns, strip);
        for (int64_t column = 0; column < target_columns; column++) {
            uint8_t pixels[GROUP + 1];
            weighted(
                pixels, strip + starts[column] * GROUP, GROUP, weights + column * taps,
                counts[column]);
            /* The next column overwrites the fourth byte. */
            uint8_t *pixel = target + first * target_step + 3 * column;
            for (int64_t row = 0; row < height; row++) {
                memcpy(pixel + row * target_step, pixels + 3 * row, 4);
            }
        }
    }
}

/* Resize every column.
 *
 * source: rows of `width` bytes, `source_step` bytes from one to the next; at least `width` rounded
 *     up to a multiple of GROUP.
 * starts, counts, weights: as above, for each of the `target_rows`.
 * target: (target_rows, width) bytes.
 */
void overlock_resample_columns(
    const uint8_t *source, const int32_t *starts, const int32_t *counts, const int32_t *weights,
    uint8_t *target, int64_t source_step, int64_t width, int64_t target_rows, int64_t taps) {
    for (int64_t row = 0; row < target_rows; row++) {
        for (int64_t at = 0; at < width; at += GROUP) {
            uint8_t result[GROUP];
            weighted(
                result, source + starts[row] * source_step + at, source_step, weights + row * taps,
                counts[row]);
            memcpy(target + row * width + at, result, least(GROUP, width - at));
        }
    }
}
