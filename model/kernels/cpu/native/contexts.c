/* The context's way into a dynamic block: beside the features, and pooled into ContMix's keys. */
#include "lanes.h"

#define TAPS 8 /* of the keys' mixture, summed together: a key is loaded once for all of them */

typedef struct {
    const void *features, *context, *initial_context;
    const float *scales; /* bias, initial scale and scale of the context, (3, C_context) */
    void *result;
    int64_t feature_step, context_step, initial_step; /* elements from one pixel to the next */
    int64_t channels, context_channels;
} join_t;

INLINE lanes_t rounded(lanes_t value, const int bfloat16) {
    return bfloat16 ? from_halves(to_halves(value)) : value;
}

INLINE void join_pixel(const join_t *j, int64_t pixel, const int bfloat16) {
    const int64_t width = j->context_channels, at = pixel * (j->channels + width);
    for (int64_t c = 0; c < j->channels; c += LANES) {
        const int64_t count = j->channels - c;
        store(
            j->result, at + c, count,
            load(j->features, pixel * j->feature_step + c, count, bfloat16), bfloat16
        );
    }
    for (int64_t c = 0; c < width; c += LANES) {
        const int64_t count = width - c;
        lanes_t value = load(j->context, pixel * j->context_step + c, count, bfloat16);
        if (j->scales) {
            const lanes_t initial =
                load(j->initial_context, pixel * j->initial_step + c, count, bfloat16);
            const lanes_t begun = load(j->scales, c, count, FLOAT32) +
                                  initial * load(j->scales, width + c, count, FLOAT32);
            value = rounded(begun, bfloat16) + value * load(j->scales, 2 * width + c, count, FLOAT32);
        }
        store(j->result, at + j->channels + c, count, value, bfloat16);
    }
}

/* Lay features and context side by side, (N, C) and (N, C_context) -> (N, C + C_context); see
 * `join_context` in model/kernels/cpu/ops.py. */
static void join(const join_t *j, int64_t pixels, int bfloat16) {
#pragma omp for schedule(static)
    for (int64_t pixel = 0; pixel < pixels; pixel++) {
        if (bfloat16) {
            join_pixel(j, pixel, BFLOAT16);
        } else {
            join_pixel(j, pixel, FLOAT32);
        }
    }
}

KERNEL(
    overlock_join_context, join,
    (const void *features, const void *context, const void *initial_context, const float *scales,
     void *result, int64_t feature_step, int64_t context_step, int64_t initial_step,
     int64_t channels, int64_t context_channels, int64_t pixels, int bfloat16),
    (&(const join_t){features, context, initial_context, scales, result, feature_step,
                     context_step, initial_step, channels, context_channels},
     pixels, bfloat16),
    (&(const join_t){POINTER(0), POINTER(1), POINTER(2), POINTER(3), POINTER(4), word[5], word[6],
                     word[7], word[8], word[9]},
     word[10], word[11])
)

INLINE void pool_cell(
    const void *map, void *result, int64_t step, int64_t first_row, int64_t end_row,
    int64_t first_column, int64_t end_column, int64_t width, int64_t channels, const int bfloat16
) {
    const float count = (float)((end_row - first_row) * (end_column - first_column));
    for (int64_t c = 0; c < channels; c += LANES) {
        lanes_t total = {0};
        for (int64_t row = first_row; row < end_row; row++) {
            for (int64_t column = first_column; column < end_column; column++) {
                total += load(map, (row * width + column) * step + c, channels - c, bfloat16);
            }
        }
        store(result, c, channels - c, total / count, bfloat16);
    }
}

/* Mean of every cell of a grid, as `adaptive_avg_pool2d`: (B, H, W, C), `step` elements from one
 * pixel to the next -> (B, grid, grid, C). */
static void pool(
    const void *map, void *result, int64_t step, int64_t batch, int64_t height, int64_t width,
    int64_t channels, int64_t grid, int bfloat16
) {
#pragma omp for collapse(3) schedule(static)
    for (int64_t image = 0; image < batch; image++) {
        for (int64_t row = 0; row < grid; row++) {
            for (int64_t column = 0; column < grid; column++) {
                const int64_t element = bytes_of(bfloat16);
                const char *own = (const char *)map + image * height * width * step * element;
                char *cell =
                    (char *)result + ((image * grid + row) * grid + column) * channels * element;
                const int64_t top = row * height / grid, left = column * width / grid;
                const int64_t bottom = blocks_of((row + 1) * height, grid);
                const int64_t right = blocks_of((column + 1) * width, grid);
                if (bfloat16) {
                    pool_cell(own, cell, step, top, bottom, left, right, width, channels, BFLOAT16);
                } else {
                    pool_cell(own, cell, step, top, bottom, left, right, width, channels, FLOAT32);
                }
            }
        }
    }
}

KERNEL(
    overlock_pool, pool,
    (const void *map, void *result, int64_t step, int64_t batch, int64_t height, int64_t width,
     int64_t channels, int64_t grid, int bfloat16),
    (map, result, step, batch, height, width, channels, grid, bfloat16),
    (POINTER(0), POINTER(1), word[2], word[3], word[4], word[5], word[6], word[7], word[8])
)

/* `count` taps of one group: (taps, cells) x (cells, D) -> (taps, D). */
INLINE void mix_taps(
    const float *mixture, const void *keys, void *result, int64_t cells, int64_t channels,
    int64_t depth, int64_t key, int64_t at, const int64_t count, const int bfloat16
) {
    for (int64_t d = 0; d < depth; d += LANES) {
        lanes_t sums[TAPS] = {{0}};
        for (int64_t cell = 0; cell < cells; cell++) {
            const lanes_t value = load(keys, key + cell * channels + d, depth - d, bfloat16);
#pragma GCC unroll 8
            for (int64_t tap = 0; tap < count; tap++) {
                sums[tap] += mixture[tap * cells + cell] * value;
            }
        }
#pragma GCC unroll 8
        for (int64_t tap = 0; tap < count; tap++) {
            store(result, at + tap * depth + d, depth - d, sums[tap], bfloat16);
        }
    }
}

/* Mix the keys of all cells for every tap: (taps, cells) x (B, cells, G, D) -> (B, G, taps, D). */
static void mix_keys(
    const float *mixture, const void *keys, void *result, int64_t batch, int64_t cells,
    int64_t channels, int64_t groups, int64_t taps, int bfloat16
) {
    const int64_t depth = channels / groups;
#pragma omp for collapse(3) schedule(static)
    for (int64_t image = 0; image < batch; image++) {
        for (int64_t group = 0; group < groups; group++) {
            for (int64_t tap = 0; tap < taps; tap += TAPS) {
                const float *own = mixture + tap * cells;
                const int64_t key = image * cells * channels + group * depth;
                const int64_t at = ((image * groups + group) * taps + tap) * depth;
                if (taps - tap >= TAPS && bfloat16) {
                    mix_taps(own, keys, result, cells, channels, depth, key, at, TAPS, BFLOAT16);
                } else if (taps - tap >= TAPS) {
                    mix_taps(own, keys, result, cells, channels, depth, key, at, TAPS, FLOAT32);
                } else {
                    mix_taps(
                        own, keys, result, cells, channels, depth, key, at, taps - tap, bfloat16
                    );
                }
            }
        }
    }
}

KERNEL(
    overlock_mix_keys, mix_keys,
    (const float *mixture, const void *keys, void *result, int64_t batch, int64_t cells,
     int64_t channels, int64_t groups, int64_t taps, int bfloat16),
    (mixture, keys, result, batch, cells, channels, groups, taps, bfloat16),
    (POINTER(0), POINTER(1), POINTER(2), word[3], word[4], word[5], word[6], word[7], word[8])
)
