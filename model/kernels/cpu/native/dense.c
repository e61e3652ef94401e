/* Dense convolution of maps in channels_last, fused with its bias, activation and residual sum.
 *
 * A tile of at most 6 pixels x PANEL vectors of results stays in registers while their products are
 * added: each step loads a vector of weights (or pairs of them) for each, and one number (or pair)
 * of every pixel, which all lanes share. A pixel's window is a list of pointers, one for each tap,
 * so that every kernel size, stride, padding and dilation is the same loop, without a copy of the
 * map; only windows of few or of an odd number of channels are copied, and those of bfloat16 where
 * it is not multiplied in pairs. Weights are packed in the order in which they are read: (panel, tap,
 * channel, results of the panel).
 *
 * Right on every processor; `overlock_prefers_dense` says where it takes oneDNN's place.
 */
#include "lanes.h"

enum { NO_ACTIVATION = 0, GELU = 1, SWISH = 2, RELU = 3 };

#define ROWS 6 /* pixels of a tile */
#if REGISTERS == 32
#define PANEL 4 /* vectors of results: 24 registers are sums */
#else
#define PANEL 2 /* 12 of 16 */
#endif
#define CHUNK_BYTES (192 * 1024) /* of windows; read again for every panel, from the second cache */
#define LEAST_CHUNK (4 * ROWS)   /* pixels; fewer would read the weights too often */
#define FEW_CHANNELS 16          /* a window's taps are shorter than what it takes to find them */

/* `_Facts` of dense_conv.py. */
typedef struct {
    int64_t channels, results, kernel_height, kernel_width;
    int64_t stride_height, stride_width, padding_height, padding_width;
    int64_t dilation_height, dilation_width, activation, bfloat16;
} dense_t;

typedef struct {
    const dense_t *layer;
    const void *weights;
    const float *bias; /* padded to whole vectors */
    const void *map, *zeros;
    void *result;
    int64_t height, width, out_height, out_width;
    int adds;
} call_t;

/* Packed weights: pairs of bfloat16 where the processor multiplies pairs, float32 otherwise. */
INLINE int is_paired(const dense_t *d) { return PAIRED && d->bfloat16; }
INLINE int64_t taps_of(const dense_t *d) { return d->kernel_height * d->kernel_width; }

/* Steps of 4 bytes in a pixel's window. */
INLINE int64_t steps_of(const dense_t *d) {
    const int64_t values = taps_of(d) * d->channels;
    return is_paired(d) ? blocks_of(values, 2) : values;
}

/* Whether windows are copied: their taps are short, or not made of whole steps. */
INLINE int is_gathered(const dense_t *d) {
    const int whole = !d->bfloat16 || (PAIRED && d->channels % 2 == 0);
    return !whole || (taps_of(d) > 1 && d->channels < FEW_CHANNELS);
}

typedef void (*tile_t)(
    const void *const *, int64_t, int64_t, int64_t, const words_t *, const float *, lanes_t *
);

/* Sum `taps` x `steps` products of a tile; `windows` has `stride` pointers for each tap. */
INLINE void multiply_tile(
    const void *const *windows, int64_t stride, int64_t taps, int64_t steps,
    const words_t *weights, const float *bias, lanes_t *tile, const int rows, const int vectors,
    const int paired
) {
    lanes_t sums[ROWS][PANEL];
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            sums[row][v] = load_floats(bias + v * LANES);
        }
    }
    for (int64_t tap = 0; tap < taps; tap++) {
        const uint32_t *pixels[ROWS];
#pragma GCC unroll 8
        for (int row = 0; row < rows; row++) {
            pixels[row] = windows[tap * stride + row];
        }
        for (int64_t step = 0; step < steps; step++, weights += vectors) {
            words_t loaded[PANEL];
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) {
                loaded[v] = weights[v];
            }
#pragma GCC unroll 8
            for (int row = 0; row < rows; row++) {
                const words_t value = filled_words(pixels[row][step]);
#pragma GCC unroll 4
                for (int v = 0; v < vectors; v++) {
                    sums[row][v] = multiply_add(sums[row][v], value, loaded[v], paired);
                }
            }
        }
    }
#pragma GCC unroll 8
    for (int row = 0; row < rows; row++) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) {
            tile[row * vectors + v] = sums[row][v];
        }
    }
}

#define DEFINE_TILE(rows, vectors, paired)                                                         \
    static void tile_##rows##_##vectors##_##paired(                                                \
        const void *const *windows, int64_t stride, int64_t taps, int64_t steps,                   \
        const words_t *weights, const float *bias, lanes_t *tile                                   \
    ) {                                                                                            \
        multiply_tile(windows, stride, taps, steps, weights, bias, tile, rows, vectors, paired);   \
    }
#define DEFINE_TILES(vectors, paired)                                                              \
    DEFINE_TILE(1, vectors, paired)                                                                \
    DEFINE_TILE(2, vectors, paired)                                                                \
    DEFINE_TILE(3, vectors, paired)                                                                \
    DEFINE_TILE(4, vectors, paired)                                                                \
    DEFINE_TILE(5, vectors, paired)                                                                \
    DEFINE_TILE(6, vectors, paired)
#define TILES(vectors, paired)                                                                     \
    {                                                                                              \
        tile_1_##vectors##_##paired, tile_2_##vectors##_##paired, tile_3_##vectors##_##paired,     \
        tile_4_##vectors##_##paired, tile_5_##vectors##_##paired, tile_6_##vectors##_##paired,     \
    }
DEFINE_TILES(1, 0)
DEFINE_TILES(2, 0)
#if PANEL > 2
DEFINE_TILES(3, 0)
DEFINE_TILES(4, 0)
#endif
#if PAIRED
DEFINE_TILES(1, 1)
DEFINE_TILES(2, 1)
DEFINE_TILES(3, 1)
DEFINE_TILES(4, 1)
#endif

static const tile_t tiles[PAIRED + 1][PANEL][ROWS] = {
#if PANEL > 2
    {TILES(1, 0), TILES(2, 0), TILES(3, 0), TILES(4, 0)},
#else
    {TILES(1, 0), TILES(2, 0)},
#endif
#if PAIRED
    {TILES(1, 1), TILES(2, 1), TILES(3, 1), TILES(4, 1)},
#endif
};

INLINE lanes_t activate(lanes_t value, const int activation, const int bfloat16) {
    switch (activation) {
    case GELU:
        return gelu(value, bfloat16);
    case SWISH:
        return value / (1.0f + exponential(-value));
    case RELU:
        return larger(filled(0.0f), value);
    default:
        return value;
    }
}

INLINE void finish_tile(
    const call_t *call, const lanes_t *tile, int64_t pixel, int64_t result, int64_t rows,
    int64_t vectors, const int activation, const int bfloat16
) {
    const int64_t results = call->layer->results;
    for (int64_t row = 0; row < rows; row++) {
        for (int64_t v = 0; v < vectors; v++) {
            const int64_t at = (pixel + row) * results + result + v * LANES;
            const int64_t count = results - result - v * LANES;
            lanes_t value = activate(tile[row * vectors + v], activation, bfloat16);
            if (call->adds) {
                value += load(call->result, at, count, bfloat16);
            }
            store(call->result, at, count, value, bfloat16);
        }
    }
}

typedef void (*finish_t)(const call_t *, const lanes_t *, int64_t, int64_t, int64_t, int64_t);
#define DEFINE_FINISH(name, activation, bfloat16)                                                  \
    static void name(                                                                              \
        const call_t *call, const lanes_t *tile, int64_t pixel, int64_t result, int64_t rows,      \
        int64_t vectors                                                                            \
    ) {                                                                                            \
        finish_tile(call, tile, pixel, result, rows, vectors, activation, bfloat16);               \
    }
DEFINE_FINISH(finish_float32, NO_ACTIVATION, 0)
DEFINE_FINISH(finish_float32_gelu, GELU, 0)
DEFINE_FINISH(finish_float32_swish, SWISH, 0)
DEFINE_FINISH(finish_float32_relu, RELU, 0)
DEFINE_FINISH(finish_bfloat16, NO_ACTIVATION, 1)
DEFINE_FINISH(finish_bfloat16_gelu, GELU, 1)
DEFINE_FINISH(finish_bfloat16_swish, SWISH, 1)
DEFINE_FINISH(finish_bfloat16_relu, RELU, 1)

static const finish_t finishes[2][4] = {
    {finish_float32, finish_float32_gelu, finish_float32_swish, finish_float32_relu},
    {finish_bfloat16, finish_bfloat16_gelu, finish_bfloat16_swish, finish_bfloat16_relu},
};

/* The output pixel whose window is next, and the place in the map of the window's first tap. */
typedef struct {
    int64_t image, y, x, top, left;
} window_t;

INLINE void place_window(const call_t *c, window_t *w) {
    w->top = w->y * c->layer->stride_height - c->layer->padding_height;
    w->left = w->x * c->layer->stride_width - c->layer->padding_width;
}

INLINE window_t window_of(const call_t *c, int64_t pixel) {
    const int64_t place = pixel % (c->out_height * c->out_width);
    window_t result = {
        pixel / (c->out_height * c->out_width), place / c->out_width, place % c->out_width, 0, 0};
    place_window(c, &result);
    return result;
}

INLINE void move_on(const call_t *c, window_t *w) {
    if (++w->x == c->out_width) {
        w->x = 0;
        if (++w->y == c->out_height) {
            w->y = 0;
            w->image++;
        }
    }
    place_window(c, w);
}

/* Point at every tap of the pixels' windows: (taps, pixels); at zeros outside of the map. */
static void find_windows(const call_t *c, int64_t first, int64_t count, const void **windows) {
    const dense_t *d = c->layer;
    const int64_t pixel_bytes = d->channels * bytes_of(d->bfloat16);
    window_t w = window_of(c, first);
    for (int64_t i = 0; i < count; i++, move_on(c, &w)) {
        const void **window = windows + i;
        for (int64_t row = 0; row < d->kernel_height; row++) {
            const int64_t y = w.top + row * d->dilation_height;
            for (int64_t column = 0; column < d->kernel_width; column++, window += count) {
                const int64_t x = w.left + column * d->dilation_width;
                const int inside = y >= 0 && y < c->height && x >= 0 && x < c->width;
                const int64_t at = (w.image * c->height + y) * c->width + x;
                *window = inside ? (const char *)c->map + at * pixel_bytes : c->zeros;
            }
        }
    }
}

/* Copy elements of the map, in the form in which a tile reads them, from `to` on. Whole vectors are
 * written, since masked stores are slow: behind the elements come zeros, and what belongs there is
 * written later. */
INLINE void copy_values(
    const call_t *c, int64_t at, int64_t count, uint32_t *values, int64_t to, const int paired,
    const int bfloat16
) {
    for (int64_t i = 0; i < count; i += LANES) {
        if (paired) {
            store_halves(values, to + i, LANES, load_halves(c->map, at + i, count - i));
        } else {
            store_floats((float *)values + to + i, load(c->map, at + i, count - i, bfloat16));
        }
    }
}

/* Copy the pixels' windows, steps_of each. */
INLINE void gather(
    const call_t *c, int64_t first, int64_t count, uint32_t *values, const int paired,
    const int bfloat16
) {
    const dense_t *d = c->layer;
    const int64_t steps = steps_of(d), dilation = d->dilation_width;
    /* Taps of a row that are neighbours in the map are copied together. */
    const int64_t run = dilation == 1 ? d->kernel_width : 1;
    const int64_t span_height = (d->kernel_height - 1) * d->dilation_height + 1;
    const int64_t span_width = (d->kernel_width - 1) * dilation + 1;
    window_t w = window_of(c, first);
    for (int64_t i = 0; i < count; i++, values += steps, move_on(c, &w)) {
        values[steps - 1] = 0; /* the last pair may lack its second half */
        if (w.top < 0 || w.left < 0 || w.top + span_height > c->height ||
            w.left + span_width > c->width) {
            memset(values, 0, steps * sizeof *values);
        }
        for (int64_t row = 0; row < d->kernel_height; row++) {
            const int64_t y = w.top + row * d->dilation_height;
            if (y < 0 || y >= c->height) {
                continue;
            }
            for (int64_t column = 0; column < d->kernel_width; column += run) {
                const int64_t x = w.left + column * dilation;
                const int64_t begin = largest(x, 0), end = least(x + run, c->width);
                const int64_t at = (w.image * c->height + y) * c->width + begin;
                const int64_t to = row * d->kernel_width + column + begin - x;
                if (begin < end) {
                    copy_values(
                        c, at * d->channels, (end - begin) * d->channels, values,
                        to * d->channels, paired, bfloat16
                    );
                }
            }
        }
    }
}

static void gather_windows(
    const call_t *c, int64_t first, int64_t count, const void **windows, uint32_t *values
) {
    if (is_paired(c->layer)) {
        gather(c, first, count, values, 1, BFLOAT16);
    } else if (c->layer->bfloat16) {
        gather(c, first, count, values, 0, BFLOAT16);
    } else {
        gather(c, first, count, values, 0, FLOAT32);
    }
    for (int64_t i = 0; i < count; i++) {
        windows[i] = values + i * steps_of(c->layer);
    }
}

static void convolve_chunk(
    const call_t *call, int64_t first, int64_t end, int64_t first_panel, int64_t end_panel,
    const void **windows, uint32_t *values
) {
    const dense_t *d = call->layer;
    const int64_t count = end - first, steps = steps_of(d), width = PANEL * LANES;
    const int64_t taps = values ? 1 : taps_of(d);
    const int64_t tile_count = blocks_of(count, ROWS);
    const finish_t finish = finishes[d->bfloat16][d->activation];
    lanes_t tile[ROWS * PANEL];
    if (values) {
        gather_windows(call, first, count, windows, values);
    } else {
        find_windows(call, first, count, windows);
    }
    for (int64_t panel = first_panel; panel < end_panel; panel++) {
        const int64_t vectors = least(PANEL, blocks_of(d->results - panel * width, LANES));
        const words_t *weights = (const words_t *)call->weights + panel * PANEL * steps;
        for (int64_t i = 0; i < tile_count; i++) { /* of equal sizes but for one pixel */
            const int64_t at = count * i / tile_count, rows = count * (i + 1) / tile_count - at;
            tiles[is_paired(d)][vectors - 1][rows - 1](
                windows + at, count, taps, steps / taps, weights, call->bias + panel * width, tile
            );
            finish(call, tile, first + at, panel * width, rows, vectors);
        }
    }
}

/* Whether it takes oneDNN's place: with AVX2 it is about as fast, and can be recorded; with NEON
 * neither was measured. */
int overlock_prefers_dense(void) {
#ifdef __AVX2__
    return 1;
#else
    return 0;
#endif
}

/* Bytes of the packed weights of a layer. */
int64_t overlock_dense_bytes(const dense_t *d) {
    return blocks_of(d->results, LANES) * steps_of(d) * sizeof(words_t);
}

/* Pack weights (results, channels, kernel height, kernel width), float32, into `packed`. */
void overlock_pack_dense(const dense_t *d, const float *weights, void *packed) {
    const int64_t taps = taps_of(d), steps = steps_of(d), blocks = blocks_of(d->results, LANES);
    const int64_t halves = is_paired(d) ? 2 : 1;
    memset(packed, 0, overlock_dense_bytes(d));
    for (int64_t result = 0; result < d->results; result++) {
        const int64_t block = result / LANES, panel = block / PANEL;
        const int64_t vectors = least(PANEL, blocks - panel * PANEL);
        for (int64_t value = 0; value < taps * d->channels; value++) {
            const int64_t tap = value / d->channels, channel = value % d->channels;
            const float weight = weights[(result * d->channels + channel) * taps + tap];
            const int64_t step = value / halves;
            const int64_t vector = panel * PANEL * steps + step * vectors + block % PANEL;
            const int64_t lane = vector * LANES + result % LANES;
            if (halves == 2) {
                ((uint16_t *)packed)[lane * 2 + value % 2] = to_halves(filled(weight))[0];
            } else {
                ((float *)packed)[lane] =
                    d->bfloat16 ? from_halves(to_halves(filled(weight)))[0] : weight;
            }
        }
    }
}

/* Convolve (B, H, W, C), or add the convolution to `result`; see `DenseConv` in dense_conv.py. */
static void dense(
    const dense_t *layer, const void *weights, const float *bias, const void *map, void *result,
    int64_t batch, int64_t height, int64_t width, int64_t out_height, int64_t out_width, int adds
) {
    const int64_t map_bytes = layer->channels * bytes_of(layer->bfloat16);
    const int64_t pixel_bytes = is_gathered(layer) ? steps_of(layer) * 4 : map_bytes;
    const int64_t pixels = batch * out_height * out_width, threads = omp_get_num_threads();
    const int64_t panels = blocks_of(layer->results, PANEL * LANES);
    const int64_t cached = largest(LEAST_CHUNK, CHUNK_BYTES / pixel_bytes);
    int64_t chunks = blocks_of(blocks_of(pixels, cached), threads) * threads;
    chunks = largest(1, least(chunks, pixels / LEAST_CHUNK));
    const int64_t groups = least(panels, blocks_of(threads, chunks));
    const int64_t most = blocks_of(pixels, chunks);
    void *zeros = scratch(map_bytes);
    memset(zeros, 0, map_bytes);
    const call_t call = {
        layer, weights, bias, map, zeros, result, height, width, out_height, out_width, adds};
    const void **windows = scratch(most * taps_of(layer) * sizeof *windows);
    uint32_t *values = is_gathered(layer) ? scratch((most * steps_of(layer) + LANES) * 4) : NULL;
#pragma omp for collapse(2) schedule(static)
    for (int64_t chunk = 0; chunk < chunks; chunk++) {
        for (int64_t group = 0; group < groups; group++) {
            convolve_chunk(
                &call, pixels * chunk / chunks, pixels * (chunk + 1) / chunks,
                panels * group / groups, panels * (group + 1) / groups, windows, values
            );
        }
    }
    free(values);
    free(windows);
    free(zeros);
}

KERNEL(
    overlock_dense, dense,
    (const dense_t *layer, const void *weights, const float *bias, const void *map, void *result,
     int64_t batch, int64_t height, int64_t width, int64_t out_height, int64_t out_width, int adds),
    (layer, weights, bias, map, result, batch, height, width, out_height, out_width, adds),
    (POINTER(0), POINTER(1), POINTER(2), POINTER(3), POINTER(4), word[5], word[6], word[7],
     word[8], word[9], word[10])
)
