/* ContMix on maps in channels_last: logits, softmax and aggregation, pixel by pixel.
 *
 * A unit of work is one group of one part (small or large kernel) of one image, or a strip of rows
 * of it. It copies its keys tap by tap and its values pixel by pixel, CHUNK vectors each, so that a
 * pixel's weights stay in the first-level cache between the two products that make and use them.
 * Keys and bias are scaled by log2(e), so that 2^x replaces the exponential.
 * In bfloat16 both products multiply pairs: two elements of a query, two taps of a row.
 */
#include "lanes.h"

#include <math.h>

#define VECTORS(kernel) (((kernel) * (kernel) + LANES - 1) / LANES) /* of taps */
#define MAX_VECTORS VECTORS(19)
#define UNITS_PER_THREAD 4
#if REGISTERS == 32
#define TILE 12 /* vectors of logits of two pixels that are summed together: 24 registers */
#else
#define TILE 7 /* 14 of 16 */
#endif
#define CHUNK (16 / LANES) /* vectors of channels that a weight is multiplied with */
#define CHAINS (LANES == 4 ? 2 : 4 / CHUNK) /* of sums: additions of one depend on each other */

typedef struct {
    const void *values, *queries, *keys;
    const float *bias; /* (G, K, K, padded taps), very negative behind the last tap */
    void *result;
    int64_t height, width, channels, query_channels, groups, kernel, first_tap, all_taps;
    int64_t first_channel; /* of the part */
    int64_t strip_rows;
} part_t;

INLINE int64_t window_start(int64_t position, int64_t size, int64_t kernel) {
    return least(largest(position - kernel / 2, 0), size - kernel);
}

/* An element as float32, or the bfloat16 pair that begins at it; `left` elements remain. */
INLINE uint32_t
word_at(const void *map, int64_t at, int64_t left, const int paired, const int bfloat16) {
    uint32_t word;
    if (paired && left > 1) {
        memcpy(&word, (const uint16_t *)map + at, sizeof word);
        return word;
    }
    if (bfloat16) {
        word = ((const uint16_t *)map)[at];
        return paired ? word : word << 16;
    }
    return ((const uint32_t *)map)[at];
}

/* Keys (taps, D) -> (D or pairs of D, padded taps). */
INLINE void lay_keys_out(
    const part_t *p, int64_t image, int64_t group, words_t *laid, int64_t vectors, const int paired,
    const int bfloat16
) {
    const int64_t depth = p->query_channels / p->groups, taps = p->kernel * p->kernel;
    const int64_t first = ((image * p->groups + group) * p->all_taps + p->first_tap) * depth;
    const int64_t rows = blocks_of(depth, paired ? 2 : 1);
    uint32_t *words = (uint32_t *)laid;
    memset(laid, 0, rows * vectors * sizeof(words_t));
    for (int64_t row = 0; row < rows; row++) {
        uint32_t *own = words + row * vectors * LANES;
        for (int64_t tap = 0; tap < taps; tap++) {
            const int64_t d = paired ? 2 * row : row;
            own[tap] = word_at(p->keys, first + tap * depth + d, depth - d, paired, bfloat16);
        }
    }
}

/* Copy the rows under a strip's windows, CHUNK vectors a pixel; paired with the right neighbour. */
INLINE void lay_values_out(
    const part_t *p, int64_t image, int64_t channel, int64_t count, int64_t first_row, int64_t rows,
    words_t *laid, const int paired, const int bfloat16
) {
    for (int64_t row = 0; row < rows; row++) {
        const int64_t pixel = (image * p->height + first_row + row) * p->width;
        words_t *own = laid + row * p->width * CHUNK;
        for (int v = 0; v < CHUNK; v++) {
            const int64_t at = pixel * p->channels + channel + v * LANES;
            const int64_t left = count - v * LANES;
            words_t right = {0};
            for (int64_t x = p->width - 1; x >= 0; x--) {
                words_t value = {0};
                if (left > 0 && paired) {
                    value = widened(load_halves(p->values, at + x * p->channels, left));
                } else if (left > 0) {
                    value = (words_t)load(p->values, at + x * p->channels, left, bfloat16);
                }
                own[x * CHUNK + v] = paired ? value | right << 16 : value;
                right = value;
            }
        }
    }
}

/* Two pixels at a time, so that shared operands are loaded once. */
typedef struct {
    int64_t pixel[2];
    const float *bias[2];
    const words_t *window[2];
    float weights[2][MAX_VECTORS * LANES] __attribute__((aligned(64)));
    float total[2];
} pair_t;

/* Logits of both pixels for the taps of `count` vectors, from vector `begin` on. */
INLINE void add_products(
    const part_t *p, const pair_t *pair, int64_t group, const words_t *keys, const int begin,
    const int count, const int vectors, lanes_t *first, lanes_t *second, const int paired,
    const int bfloat16
) {
    const int64_t depth = p->query_channels / p->groups, step = paired ? 2 : 1;
    const int64_t first_query = pair->pixel[0] * p->query_channels + group * depth;
    const int64_t second_query = pair->pixel[1] * p->query_channels + group * depth;
    lanes_t upper[TILE], lower[TILE];
#pragma GCC unroll 16
    for (int v = 0; v < count; v++) {
        upper[v] = load_floats(pair->bias[0] + (begin + v) * LANES);
        lower[v] = load_floats(pair->bias[1] + (begin + v) * LANES);
    }
    for (int64_t d = 0; d < depth; d += step) {
        const words_t a =
            filled_words(word_at(p->queries, first_query + d, depth - d, paired, bfloat16));
        const words_t b =
            filled_words(word_at(p->queries, second_query + d, depth - d, paired, bfloat16));
        const words_t *row = keys + d / step * vectors + begin;
#pragma GCC unroll 16
        for (int v = 0; v < count; v++) {
            upper[v] = multiply_add(upper[v], row[v], a, paired);
            lower[v] = multiply_add(lower[v], row[v], b, paired);
        }
    }
#pragma GCC unroll 16
    for (int v = 0; v < count; v++) {
        first[begin + v] = upper[v];
        second[begin + v] = lower[v];
    }
}

/* Store 2^(logit - largest) of every tap in `weights`, float32 or bfloat16, and their sum. */
INLINE void weigh(
    const part_t *p, pair_t *pair, int64_t group, const words_t *keys, const int vectors,
    const int paired, const int bfloat16
) {
    const int tiles = (vectors + TILE - 1) / TILE;
    lanes_t first[MAX_VECTORS], second[MAX_VECTORS];
#pragma GCC unroll 16
    for (int tile = 0; tile < tiles; tile++) { /* of equal sizes but for one vector */
        const int begin = vectors * tile / tiles, end = vectors * (tile + 1) / tiles;
        add_products(
            p, pair, group, keys, begin, end - begin, vectors, first, second, paired, bfloat16
        );
    }
    for (int each = 0; each < 2; each++) {
        lanes_t *logits = each ? second : first;
        lanes_t peaks = logits[0];
#pragma GCC unroll 16
        for (int v = 1; v < vectors; v++) {
            peaks = larger(peaks, logits[v]);
        }
        const float peak = largest_of(peaks);
        lanes_t total = {0};
#pragma GCC unroll 16
        for (int v = 0; v < vectors; v++) {
            const lanes_t weight = power_of_two(logits[v] - peak);
            store(pair->weights[each], v * LANES, LANES, weight, paired ? BFLOAT16 : FLOAT32);
            total += weight;
        }
        pair->total[each] = sum_of(total);
    }
}

/* Broadcast the bits of one weight, or of two neighbouring bfloat16 ones, to all lanes. */
INLINE words_t
weight_word(const pair_t *pair, int each, int64_t tap, int single, const int paired) {
    if (!paired) {
        return (words_t)filled(pair->weights[each][tap]);
    }
    const uint16_t *own = (const uint16_t *)pair->weights[each] + tap;
    uint32_t word = *own;
    if (!single) {
        memcpy(&word, own, sizeof word);
    }
    return filled_words(word);
}

/* Weighted sums of CHUNK vectors of channels over both pixels' windows. */
INLINE void aggregate(
    const part_t *p, const pair_t *pair, int64_t offset, const int64_t kernel, const int paired,
    const int same_window, lanes_t mixed[2][CHUNK]
) {
    const int64_t step = paired ? 2 : 1;
    lanes_t sums[2][CHAINS][CHUNK] = {{{{0}}}};
    for (int64_t row = 0; row < kernel; row++) {
        const words_t *a = pair->window[0] + offset + row * p->width * CHUNK;
        const words_t *b = pair->window[1] + offset + row * p->width * CHUNK;
#pragma GCC unroll 16
        for (int64_t column = 0; column < kernel; column += step) {
            const int64_t tap = row * kernel + column;
            const int single = column + 1 == kernel, chain = column / step % CHAINS;
            const words_t first = weight_word(pair, 0, tap, single, paired);
            const words_t second = weight_word(pair, 1, tap, single, paired);
#pragma GCC unroll 4
            for (int v = 0; v < CHUNK; v++) {
                const words_t under = a[column * CHUNK + v];
                sums[0][chain][v] = multiply_add(sums[0][chain][v], under, first, paired);
                sums[1][chain][v] = multiply_add(
                    sums[1][chain][v], same_window ? under : b[column * CHUNK + v], second, paired
                );
            }
        }
    }
    for (int each = 0; each < 2; each++) {
        for (int v = 0; v < CHUNK; v++) {
            lanes_t total = sums[each][0][v];
#pragma GCC unroll 4
            for (int chain = 1; chain < CHAINS; chain++) {
                total += sums[each][chain][v];
            }
            mixed[each][v] = total / pair->total[each];
        }
    }
}

INLINE void mix_unit(
    const part_t *p, int64_t image, int64_t group, int64_t strip, words_t *buffer, const int kernel,
    const int vectors, const int paired, const int bfloat16
) {
    const int64_t width = p->channels / (2 * p->groups), taps = kernel * kernel;
    const int64_t depth = p->query_channels / p->groups;
    const int64_t first = strip * p->strip_rows, end = least(p->height, first + p->strip_rows);
    const int64_t top = window_start(first, p->height, kernel);
    const int64_t rows = window_start(end - 1, p->height, kernel) + kernel - top;
    words_t *keys = buffer, *values = keys + blocks_of(depth, paired ? 2 : 1) * vectors;
    const int64_t chunks = blocks_of(width, CHUNK * LANES), chunk_words = rows * p->width * CHUNK;
    lay_keys_out(p, image, group, keys, vectors, paired, bfloat16);
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        const int64_t from = chunk * CHUNK * LANES;
        lay_values_out(
            p, image, p->first_channel + group * width + from, width - from, top, rows,
            values + chunk * chunk_words, paired, bfloat16
        );
    }
    pair_t pair;
    for (int64_t row = first; row < end; row++) {
        const int64_t start_row = window_start(row, p->height, kernel);
        for (int64_t column = 0; column < p->width; column += 2) {
            for (int each = 0; each < 2; each++) { /* an odd width ends with the same pixel twice */
                const int64_t own = least(column + each, p->width - 1);
                const int64_t start_column = window_start(own, p->width, kernel);
                const int64_t place = (row - start_row) * kernel + own - start_column;
                pair.pixel[each] = (image * p->height + row) * p->width + own;
                pair.bias[each] = p->bias + (group * taps + place) * vectors * LANES;
                pair.window[each] =
                    values + ((start_row - top) * p->width + start_column) * CHUNK;
            }
            weigh(p, &pair, group, keys, vectors, paired, bfloat16);
            for (int64_t chunk = 0; chunk < chunks; chunk++) {
                const int64_t from = chunk * CHUNK * LANES;
                const int64_t channel = p->first_channel + group * width + from;
                lanes_t mixed[2][CHUNK];
                if (pair.window[0] == pair.window[1]) {
                    aggregate(p, &pair, chunk * chunk_words, kernel, paired, 1, mixed);
                } else {
                    aggregate(p, &pair, chunk * chunk_words, kernel, paired, 0, mixed);
                }
                for (int each = 0; each < 2; each++) {
                    for (int v = 0; v < CHUNK && from + v * LANES < width; v++) {
                        store(
                            p->result, pair.pixel[each] * p->channels + channel + v * LANES,
                            width - from - v * LANES, mixed[each][v], bfloat16
                        );
                    }
                }
            }
        }
    }
}

/* One function for each set of constants: they do not propagate into a parallel region. */
typedef void (*unit_t)(const part_t *, int64_t, int64_t, int64_t, words_t *);
#define DEFINE_UNIT(name, kernel, vectors, paired, bfloat16)                                       \
    static void name(                                                                              \
        const part_t *p, int64_t image, int64_t group, int64_t strip, words_t *buffer                \
    ) {                                                                                            \
        mix_unit(p, image, group, strip, buffer, kernel, vectors, paired, bfloat16);                 \
    }
DEFINE_UNIT(float32_5, 5, VECTORS(5), 0, 0)
DEFINE_UNIT(float32_7, 7, VECTORS(7), 0, 0)
DEFINE_UNIT(float32_13, 13, VECTORS(13), 0, 0)
DEFINE_UNIT(float32_any, p->kernel, VECTORS(p->kernel), 0, 0)
DEFINE_UNIT(bfloat16_5, 5, VECTORS(5), PAIRED, 1)
DEFINE_UNIT(bfloat16_7, 7, VECTORS(7), PAIRED, 1)
DEFINE_UNIT(bfloat16_13, 13, VECTORS(13), PAIRED, 1)
DEFINE_UNIT(bfloat16_any, p->kernel, VECTORS(p->kernel), PAIRED, 1)

/* The published networks' kernels are constants: loops over their logits are unrolled, and a tile of
 * them stays in registers. */
static unit_t unit_for(int64_t kernel, int bfloat16) {
    switch (kernel) {
    case 5:
        return bfloat16 ? bfloat16_5 : float32_5;
    case 7:
        return bfloat16 ? bfloat16_7 : float32_7;
    case 13:
        return bfloat16 ? bfloat16_13 : float32_13;
    default:
        return bfloat16 ? bfloat16_any : float32_any;
    }
}

/* Mix (B, H, W, C); see `mix_context` in model/kernels/cpu/ops.py. */
static void mix_context(
    const void *values, const void *queries, const void *keys, const float *small_bias,
    const float *large_bias, void *result, int64_t batch, int64_t height, int64_t width,
    int64_t channels, int64_t query_channels, int64_t groups, int64_t small_kernel,
    int64_t large_kernel, int bfloat16
) {
    const int64_t small_taps = small_kernel * small_kernel;
    const int64_t all_taps = small_taps + large_kernel * large_kernel;
    const int64_t units = 2 * batch * groups;
    const int64_t wanted = blocks_of(UNITS_PER_THREAD * omp_get_num_threads(), units);
    const int64_t strip_rows = blocks_of(height, least(wanted, height));
    const int64_t strips = blocks_of(height, strip_rows);
    /* The large part first: its units are the long ones. */
    const part_t parts[2] = {
        {values, queries, keys, large_bias, result, height, width, channels, query_channels, groups,
         large_kernel, small_taps, all_taps, channels / 2, strip_rows},
        {values, queries, keys, small_bias, result, height, width, channels, query_channels, groups,
         small_kernel, 0, all_taps, 0, strip_rows},
    };
    const unit_t functions[2] = {
        unit_for(large_kernel, bfloat16), unit_for(small_kernel, bfloat16)};
    const int64_t depth = query_channels / groups;
    const int64_t chunks = blocks_of(channels / (2 * groups), CHUNK * LANES);
    const int64_t rows = least(height, strip_rows + large_kernel);
    const int64_t buffer_bytes =
        (depth * MAX_VECTORS + chunks * rows * width * CHUNK) * sizeof(words_t);
    words_t *buffer = scratch(buffer_bytes);
#pragma omp for collapse(4) schedule(dynamic)
    for (int part = 0; part < 2; part++) {
        for (int64_t image = 0; image < batch; image++) {
            for (int64_t group = 0; group < groups; group++) {
                for (int64_t strip = 0; strip < strips; strip++) {
                    functions[part](&parts[part], image, group, strip, buffer);
                }
            }
        }
    }
    free(buffer);
}

KERNEL(
    overlock_context_mixing, mix_context,
    (const void *values, const void *queries, const void *keys, const float *small_bias,
     const float *large_bias, void *result, int64_t batch, int64_t height, int64_t width,
     int64_t channels, int64_t query_channels, int64_t groups, int64_t small_kernel,
     int64_t large_kernel, int bfloat16),
    (values, queries, keys, small_bias, large_bias, result, batch, height, width, channels,
     query_channels, groups, small_kernel, large_kernel, bfloat16),
    (POINTER(0), POINTER(1), POINTER(2), POINTER(3), POINTER(4), POINTER(5), word[6], word[7],
     word[8], word[9], word[10], word[11], word[12], word[13], word[14])
)
