/* Resizing RGB pixels by Pillow's integer arithmetic: weights of 22 fractional bits, int32 sums,
 * rounded and clipped to uint8 after either pass. Sums of integers are the same in any order, so
 * equal weights make equal bits.
 *
 * One thread, no state: a worker's parallelism is its requests.
 */
#include "lanes.h"

#define ROWS 16          /* that are resized together */
#define GROUP (3 * ROWS) /* bytes that are summed together */
#define FRACTION 22      /* bits of a weight behind the point */

/* Vectors as wide as the processor's: GCC keeps wider ones in memory. Without either, the plain loop
 * vectorises well (NEON) or half as fast (SSE4). */
#if defined(__AVX512F__)
#define WIDTH 16
#define WIDENED(bytes) _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(bytes)))
#elif defined(__AVX2__)
#define WIDTH 8
#define WIDENED(bytes) _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)(bytes)))
#endif

typedef uint8_t bytes_t __attribute__((vector_size(16)));
typedef uint32_t pixels_t __attribute__((vector_size(16)));

/* Sum `count` groups of bytes that are `step` bytes apart, each times its weight; round and clip. */
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

/* Turn four pixels of each of four rows into the four rows of each pixel, 12 bytes each. */
INLINE void turn(const uint8_t *const rows[4], int64_t column, bytes_t turned[4]) {
    const bytes_t packed = {0, 1, 2, 4, 5, 6, 8, 9, 10, 12, 13, 14, 0, 0, 0, 0};
    pixels_t a, b, c, d;
    memcpy(&a, rows[0] + 4 * column, sizeof a);
    memcpy(&b, rows[1] + 4 * column, sizeof b);
    memcpy(&c, rows[2] + 4 * column, sizeof c);
    memcpy(&d, rows[3] + 4 * column, sizeof d);
    pixels_t ab = __builtin_shuffle(a, b, (pixels_t){0, 4, 1, 5});
    pixels_t cd = __builtin_shuffle(c, d, (pixels_t){0, 4, 1, 5});
    turned[0] = (bytes_t)__builtin_shuffle(ab, cd, (pixels_t){0, 1, 4, 5});
    turned[1] = (bytes_t)__builtin_shuffle(ab, cd, (pixels_t){2, 3, 6, 7});
    ab = __builtin_shuffle(a, b, (pixels_t){2, 6, 3, 7});
    cd = __builtin_shuffle(c, d, (pixels_t){2, 6, 3, 7});
    turned[2] = (bytes_t)__builtin_shuffle(ab, cd, (pixels_t){0, 1, 4, 5});
    turned[3] = (bytes_t)__builtin_shuffle(ab, cd, (pixels_t){2, 3, 6, 7});
    for (int each = 0; each < 4; each++) {
        turned[each] = __builtin_shuffle(turned[each], packed);
    }
}

/* Lay ROWS rows of 4-byte pixels out column by column, 3 bytes a pixel. */
static void lay_out(const uint8_t *const rows[ROWS], int64_t columns, uint8_t *strip) {
    int64_t whole = columns / 4 * 4;
    for (int64_t column = 0; column < whole; column += 4) {
        bytes_t turned[ROWS / 4][4];
        for (int part = 0; part < ROWS / 4; part++) {
            turn(rows + 4 * part, column, turned[part]);
        }
        /* In this order: the last 4 of 16 bytes are written over by what comes next. */
        for (int each = 0; each < 4; each++) {
            for (int part = 0; part < ROWS / 4; part++) {
                memcpy(strip + (column + each) * GROUP + 12 * part, &turned[part][each], 16);
            }
        }
    }
    for (int64_t column = whole; column < columns; column++) {
        for (int row = 0; row < ROWS; row++) {
            memcpy(strip + column * GROUP + 3 * row, rows[row] + 4 * column, 3);
        }
    }
}

/* Resize every row.
 *
 * source: (rows, columns) pixels of 4 bytes, red, green, blue and one that is not looked at;
 *     `source_step` bytes from one row to the next.
 * starts, counts, weights: of each of the `target_columns`, the first column of the source that it
 *     takes, how many, and their weights, `taps` numbers apart.
 * strip: scratch, GROUP bytes for each column and 4 more.
 * target: (rows, target_columns) pixels of 3 bytes, `target_step` bytes from one row to the next,
 *     at least one more than its pixels take.
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
            /* The fourth byte is written over by the next column. */
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
 *     up to whole GROUPs.
 * starts, counts, weights: as above, of each of the `target_rows`.
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
