/* The 2:4 patterns of a layer: scores, probabilities, the draw and the masked weights, and the way back. What
   `sparsity/joint.py` computes in PyTorch, with the same numbers drawn.

   Sixteen groups of four weights are taken through all steps with everything in registers. Weights are multiplied by
   their masks, so that one that is no finite number shows (NaN * 0 is NaN), as in PyTorch.

   Shapes: R masks, J out and I in features, G = ceil(I / 4) groups of a row, K the groups of one mask in all layers
   together: a layer's part of an array [.., R, K] begins at the pointer given. Weights and alpha are [J, I] and
   [R, J, I]; E is [I], or [R, I] with `per_mask`. `kind` says what the scores are: |W| E sigmoid(alpha), sigmoid(alpha),
   or alpha, which is not normalised. */

#include <math.h>

#include "vectors.h"

#define M 4
#define PATTERNS 6
#define COLUMNS 4               /* vectors of columns taken together */
#define SMALLEST_SCALE 1e-30f   /* as in sparsity/patterns.py */
#define VARIANCE_EPS 1e-10f
enum { MAGNITUDE, ALPHA, LOGITS }; /* `kind`, in the order of SCORES in sparsity/scores.py */

/* The two columns that each pattern keeps: 1100, 1010, 1001, 0110, 0101, 0011. */
static const int FIRST[PATTERNS] = {0, 0, 0, 1, 1, 2}, SECOND[PATTERNS] = {1, 2, 3, 2, 3, 3};
#define COLUMNS_OF(P) (1 << FIRST[P] | 1 << SECOND[P]) /* as bits */

/* What groups allow, a lane for each: a last group of r < 4 real columns takes no pattern that keeps a padded one
   instead of a real one, and of equal ones the first. */
typedef struct {
    vec real[M], legal[PATTERNS], columns, variance_of_sum;
} Shape;

static void allow(Shape *shape, int lane, int r) {
    int found = 0, kept = r < 2 ? r : 2;
    for (int c = 0; c < M; c++) shape->real[c][lane] = c < r;
    for (int p = 0; p < PATTERNS; p++) {
        int legal = (FIRST[p] < r) + (SECOND[p] < r) == kept && !(r <= 2 && found);
        shape->legal[p][lane] = legal;
        found |= legal;
    }
    shape->columns[lane] = r;
    /* of the sum of two of r centred scores, by the sum of their squares */
    shape->variance_of_sum[lane] = r > 2 ? 2.0f * (r - 2) / (r * (r - 1)) : 0.0f;
}

static void set_shape(Shape *shape, size_t first, size_t count, size_t I, size_t G) {
    for (size_t lane = 0; lane < LANES; lane++) {
        size_t from = M * ((first + lane) % G);
        allow(shape, lane, lane < count && from + M > I ? (int)(I - from) : M);
    }
}

/* Columns of sixteen groups that lie one after the other, and back. */
static inline void split_columns(vec out[M], const float *p) {
    vec a = load(p), b = load(p + LANES), c = load(p + 2 * LANES), d = load(p + 3 * LANES);
    vec even_ab = EVEN(a, b), odd_ab = ODD(a, b), even_cd = EVEN(c, d), odd_cd = ODD(c, d);
    out[0] = EVEN(even_ab, even_cd);
    out[1] = EVEN(odd_ab, odd_cd);
    out[2] = ODD(even_ab, even_cd);
    out[3] = ODD(odd_ab, odd_cd);
}

static inline void join_columns(float *p, const vec in[M]) {
    vec low_even = LOW(in[0], in[2]), high_even = HIGH(in[0], in[2]);
    vec low_odd = LOW(in[1], in[3]), high_odd = HIGH(in[1], in[3]);
    store(p, LOW(low_even, low_odd));
    store(p + LANES, HIGH(low_even, low_odd));
    store(p + 2 * LANES, LOW(high_even, high_odd));
    store(p + 3 * LANES, HIGH(high_even, high_odd));
}

static inline void gather(vec out[M], const float *matrix, size_t first, size_t count, size_t I, size_t G) {
    if (I % M == 0 && count == LANES) {
        split_columns(out, matrix + M * first);
        return;
    }
    float lanes[M][LANES] = {{0}};
    for (size_t lane = 0; lane < count; lane++) {
        size_t row = (first + lane) / G, from = M * ((first + lane) % G);
        for (size_t c = 0; c < M && from + c < I; c++) lanes[c][lane] = matrix[row * I + from + c];
    }
    for (int c = 0; c < M; c++) out[c] = load(lanes[c]);
}

static inline void gather_columns(vec out[M], const float *of_columns, size_t first, size_t count, size_t I, size_t G) {
    if (I % M == 0 && first % G + LANES <= G && count == LANES) {
        split_columns(out, of_columns + M * (first % G));
        return;
    }
    float lanes[M][LANES] = {{0}};
    for (size_t lane = 0; lane < count; lane++) {
        size_t from = M * ((first + lane) % G);
        for (size_t c = 0; c < M && from + c < I; c++) lanes[c][lane] = of_columns[from + c];
    }
    for (int c = 0; c < M; c++) out[c] = load(lanes[c]);
}

static inline void scatter(float *matrix, vec values[M], size_t first, size_t count, size_t I, size_t G) {
    if (I % M == 0 && count == LANES) {
        join_columns(matrix + M * first, values);
        return;
    }
    for (size_t lane = 0; lane < count; lane++) {
        size_t row = (first + lane) / G, from = M * ((first + lane) % G);
        for (size_t c = 0; c < M && from + c < I; c++) matrix[row * I + from + c] = values[c][lane];
    }
}

static inline vec read(const float *p, size_t count) {
    if (count == LANES) return load(p);
    float lanes[LANES] = {0};
    memcpy(lanes, p, count * sizeof(float));
    return load(lanes);
}

static inline void write(float *p, vec v, size_t count) { memcpy(p, &v, count * sizeof(float)); }

static inline vec magnitude(vec v) { return pick(v < 0.0f, -v, v); }

static inline vec root(vec v) {
    for (int lane = 0; lane < LANES; lane++) v[lane] = sqrtf(v[lane]);
    return v;
}

/* A layer, whose groups are taken in blocks of sixteen. */
typedef struct {
    size_t I, G, groups, kind;
    const Shape *full;
} Layer;

static inline size_t block(const Layer *layer, size_t first, const Shape **shape, Shape *ragged) {
    size_t count = layer->groups - first < LANES ? layer->groups - first : LANES;
    *shape = layer->full;
    if (layer->I % M) {
        set_shape(ragged, first, count, layer->I, layer->G);
        *shape = ragged;
    }
    return count;
}

static Layer make_layer(size_t J, size_t I, size_t kind, Shape *full) {
    for (int lane = 0; lane < LANES; lane++) allow(full, lane, M);
    size_t G = (I + M - 1) / M;
    return (Layer){I, G, J * G, kind, full};
}

static inline void scores_of(vec scores[M], const float *weight, const float *ema, const float *alpha, size_t first,
                             size_t count, const Layer *layer, vec w[M]) {
    vec a[M], e[M];
    gather(w, weight, first, count, layer->I, layer->G);
    gather(a, alpha, first, count, layer->I, layer->G);
    gather_columns(e, ema, first, count, layer->I, layer->G);
    for (int c = 0; c < M; c++) {
        scores[c] = layer->kind == LOGITS ? a[c] : sigmoid(a[c]);
        if (layer->kind == MAGNITUDE) scores[c] *= magnitude(w[c]) * e[c];
    }
}

/* weights [R, J, I] of each mask's most likely patterns, the first of equals. Scores that are no finite numbers say
   nothing, and their group keeps the first pattern, which is legal everywhere. */
void patterns_most_likely(size_t R, size_t J, size_t I, size_t per_mask, size_t kind, const float *weight, const float *ema,
                          const float *alpha, float *weights) {
    Shape full, ragged;
    const Shape *shape;
    Layer layer = make_layer(J, I, kind, &full);
    for (size_t r = 0; r < R; r++)
        for (size_t first = 0; first < layer.groups; first += LANES) {
            size_t count = block(&layer, first, &shape, &ragged);
            vec w[M], s[M];
            scores_of(s, weight, ema + r * per_mask * I, alpha + r * J * I, first, count, &layer, w);
            vec nothing = (s[0] + s[1] + s[2] + s[3]) * 0.0f; /* NaN, to which no sum compares, or 0 */
            vec best = s[FIRST[0]] + s[SECOND[0]] + nothing;
            ivec columns = (ivec){0} + COLUMNS_OF(0); /* a bit for each that is kept */
            for (int p = 1; p < PATTERNS; p++) {
                vec sum = s[FIRST[p]] + s[SECOND[p]];
                ivec better = (sum > best) & (shape->legal[p] > 0.0f);
                best = pick(better, sum, best);
                columns = (better & COLUMNS_OF(p)) | (~better & columns);
            }
            for (int c = 0; c < M; c++) {
                ivec kept = columns << (31 - c) >> 31;
                w[c] *= pick(kept, all(1.0f), all(0.0f));
            }
            scatter(weights + r * J * I, w, first, count, I, layer.G);
        }
}

/* uniform [R, K] in [0, 1) to temperature [1]. Gives probs [6, R, K], drawn [R, K] (the pattern's index), masks [R, K,
   4] and weights [R, J, I], and for the way back the normalised scores [4, R, K] and the factor [R, K] that scaled
   them. */
void patterns_draw(size_t R, size_t J, size_t I, size_t per_mask, size_t kind, size_t K, const float *weight, const float *ema,
                   const float *alpha, const float *temperature, const float *uniform, float *probs, int64_t *drawn,
                   float *masks, float *weights, float *normal, float *factor) {
    Shape full, ragged;
    const Shape *shape;
    Layer layer = make_layer(J, I, kind, &full);
    const float sharpness = 1.0f / *temperature, normalises = kind != LOGITS;
    for (size_t r = 0; r < R; r++)
        for (size_t first = 0; first < layer.groups; first += LANES) {
            size_t count = block(&layer, first, &shape, &ragged), at = r * K + first;
            vec w[M], s[M], pi[PATTERNS];
            scores_of(s, weight, ema + r * per_mask * I, alpha + r * J * I, first, count, &layer, w);

            /* Zero mean and unit variance of the patterns' sums. */
            if (kind == ALPHA) /* a padded column has no alpha, and no score */
                for (int c = 0; c < M; c++) s[c] *= shape->real[c];
            vec scale = larger(larger(s[0], s[1]), larger(s[2], s[3])), sum = all(0.0f), squares = all(0.0f);
            scale = 1.0f / larger(scale, all(SMALLEST_SCALE));
            if (kind == LOGITS) scale = all(1.0f);
            for (int c = 0; c < M; c++) sum += s[c] *= scale;
            vec mean = sum / shape->columns * normalises;
            for (int c = 0; c < M; c++) {
                s[c] = (s[c] - mean) * shape->real[c];
                squares += s[c] * s[c];
            }
            vec shrink = all(1.0f);
            if (kind != LOGITS) shrink /= root(squares * shape->variance_of_sum + VARIANCE_EPS);
            for (int c = 0; c < M; c++) {
                s[c] *= shrink;
                write(normal + c * R * K + at, s[c], count);
            }
            write(factor + at, shrink * scale, count);

            /* softmax(logits / temperature) */
            vec most = all(-INFINITY), total = all(0.0f);
            for (int p = 0; p < PATTERNS; p++) {
                pi[p] = (s[FIRST[p]] + s[SECOND[p]]) * sharpness;
                most = pick((pi[p] > most) & (shape->legal[p] > 0.0f), pi[p], most);
            }
            for (int p = 0; p < PATTERNS; p++) {
                vec below = pi[p] - most;
                vec likely = pick(below < -87.0f, all(0.0f), exponential(below)) * shape->legal[p];
                total += pi[p] = likely;
            }
            total = 1.0f / total;
            for (int p = 0; p < PATTERNS; p++) {
                pi[p] *= total;
                write(probs + p * R * K + at, pi[p], count);
            }

            /* The pattern at which the cumulative probability passes the uniform number. */
            vec cumulative[PATTERNS];
            cumulative[0] = pi[0];
            for (int p = 1; p < PATTERNS; p++) cumulative[p] = cumulative[p - 1] + pi[p];
            total = cumulative[PATTERNS - 1];
            vec threshold = read(uniform + at, count) * total, last = total * (1.0f - 1e-6f);
            threshold = pick(threshold > last, last, threshold);
            ivec index = {0}, kept[M] = {{0}};
            for (int p = 0; p < PATTERNS; p++) index -= cumulative[p] <= threshold;
            for (int p = 0; p < PATTERNS; p++) {
                ivec is = index == p;
                kept[FIRST[p]] |= is;
                kept[SECOND[p]] |= is;
            }
            vec ones[M];
            for (size_t lane = 0; lane < count; lane++) drawn[at + lane] = index[lane];
            for (int c = 0; c < M; c++) {
                ones[c] = pick(kept[c], all(1.0f), all(0.0f));
                w[c] *= ones[c];
            }
            scatter(masks + M * at, ones, 0, count, M, 1);
            scatter(weights + r * J * I, w, first, count, I, layer.G);
        }
}

/* From the gradients by weights [R, J, I] and probs [6, R, K] (or null, for none), and what `patterns_draw` was given
   and left, those by alpha [R, J, I] and by the weight [J, I], which is added to what is there. A drawn mask takes the
   gradient of its mean, `probs @ patterns`. */
void patterns_draw_backward(size_t R, size_t J, size_t I, size_t per_mask, size_t kind, size_t K, const float *weight,
                            const float *ema, const float *alpha, const float *temperature, const float *probs,
                            const float *masks, const float *normal, const float *factor, const float *grad_weights,
                            const float *grad_probs, float *grad_alpha, float *grad_weight) {
    Shape full, ragged;
    const Shape *shape;
    Layer layer = make_layer(J, I, kind, &full);
    const float sharpness = 1.0f / *temperature, normalises = kind != LOGITS;
    for (size_t r = 0; r < R; r++)
        for (size_t first = 0; first < layer.groups; first += LANES) {
            size_t count = block(&layer, first, &shape, &ragged), at = r * K + first;
            vec w[M], a[M], e[M], kept[M], s[M], by_weights[M], by_w[M];
            gather(w, weight, first, count, I, layer.G);
            gather(a, alpha + r * J * I, first, count, I, layer.G);
            gather_columns(e, ema + r * per_mask * I, first, count, I, layer.G);
            gather(by_weights, grad_weights + r * J * I, first, count, I, layer.G);
            gather(by_w, grad_weight, first, count, I, layer.G);
            gather(kept, masks + M * at, 0, count, M, 1);

            /* probs, then logits */
            vec pi[PATTERNS], by_logit[PATTERNS], expected = all(0.0f);
            for (int p = 0; p < PATTERNS; p++) {
                pi[p] = read(probs + p * R * K + at, count);
                by_logit[p] = by_weights[FIRST[p]] * w[FIRST[p]] + by_weights[SECOND[p]] * w[SECOND[p]];
                if (grad_probs) by_logit[p] += read(grad_probs + p * R * K + at, count);
                expected += pi[p] * by_logit[p];
            }
            vec by_normal[M] = {{0}};
            for (int p = 0; p < PATTERNS; p++) {
                by_logit[p] = pi[p] * (by_logit[p] - expected) * sharpness;
                by_normal[FIRST[p]] += by_logit[p];
                by_normal[SECOND[p]] += by_logit[p];
            }

            /* normalised scores, then scores */
            vec along = all(0.0f), sum = all(0.0f), by_score[M];
            for (int c = 0; c < M; c++) {
                s[c] = read(normal + c * R * K + at, count);
                along += by_normal[c] * s[c];
            }
            along *= shape->variance_of_sum * normalises;
            for (int c = 0; c < M; c++) {
                by_score[c] = (by_normal[c] - s[c] * along) * shape->real[c];
                sum += by_score[c];
            }
            vec mean = sum / shape->columns * normalises, scaled_by = read(factor + at, count);
            for (int c = 0; c < M; c++) {
                by_score[c] = (by_score[c] - mean) * shape->real[c] * scaled_by;
                by_w[c] += by_weights[c] * kept[c];
                if (kind == LOGITS) {
                    a[c] = by_score[c];
                    continue;
                }
                vec share = sigmoid(a[c]), by_rest = by_score[c] * share;
                a[c] = by_rest * (1.0f - share);
                if (kind == ALPHA) continue;
                a[c] *= e[c] * magnitude(w[c]);
                vec sign = pick(w[c] > 0.0f, all(1.0f), pick(w[c] < 0.0f, all(-1.0f), all(0.0f)));
                by_w[c] += by_rest * e[c] * sign;
            }
            scatter(grad_alpha + r * J * I, a, first, count, I, layer.G);
            scatter(grad_weight, by_w, first, count, I, layer.G);
        }
}

/* The next average E [I] of |x| [N, rows, I] over the rows that are real (1, not 0) [N, rows], and whether it has had
   any. The first sets it; later ones move it to `1 - momentum [1]` of the way; without a real row it stays. An agent's
   rows begin `stride` numbers after those of the one before. */
void input_scale(size_t N, size_t rows, size_t stride, size_t I, const float *x, const float *real,
                 const float *momentum, const float *before, const uint8_t *initialised, float *after,
                 uint8_t *initialised_after) {
    float count = 0.0f;
    for (size_t row = 0; row < N * rows; row++) count += real[row];
    float step = count > 0.0f ? (*initialised ? 1.0f - *momentum : 1.0f) : 0.0f;
    float share = count > 0.0f ? 1.0f / count : 0.0f;
    *initialised_after = *initialised || count > 0.0f;
    size_t i = 0;
    for (; i + COLUMNS * LANES <= I; i += COLUMNS * LANES) {
        vec sums[COLUMNS] = {{0}};
        for (size_t n = 0; n < N; n++)
            for (size_t row = 0; row < rows; row++)
                for (int j = 0; j < COLUMNS; j++)
                    sums[j] += magnitude(load(x + n * stride + row * I + i + j * LANES)) * real[n * rows + row];
        for (int j = 0; j < COLUMNS; j++) {
            vec old = load(before + i + j * LANES);
            store(after + i + j * LANES, old + step * (sums[j] * share - old));
        }
    }
    for (; i < I; i++) {
        float sum = 0.0f;
        for (size_t n = 0; n < N; n++)
            for (size_t row = 0; row < rows; row++) sum += fabsf(x[n * stride + row * I + i]) * real[n * rows + row];
        after[i] = before[i] + step * (sum * share - before[i]);
    }
}
