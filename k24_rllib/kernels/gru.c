/* The recurrence of a GRU over time, forward and back: what `models/gru.py` computes step by step in PyTorch.

   Rows (an agent's episode each) do not depend on one another, so a few rows at a time are taken through all time
   steps, with their state in registers or the first cache. Arrays stay agent-major, as the layers around the GRU have
   them: a row is an agent n and one of its episodes b, and `at` finds its place at a step.

   Shapes: N agents, T time steps, B episodes, H hidden size, a multiple of 16. Gates lie side by side: reset, update,
   new. States are [N, T + 1, B, H], the first step the given one. Rows [from, to) of the N * B are computed. */

#include "vectors.h"

#define ROWS 6 /* rows taken together, and vectors of columns: ROWS x COLUMNS sums fill the registers, and no more */
#if LANES == 16
#define COLUMNS 4 /* 24 of the 32 of AVX-512 */
#else
#define COLUMNS 2 /* 12 of the 16 of AVX2 */
#endif

/* Place of a row at step t in an array [N, steps, B, ...]. */
static inline size_t at(size_t row, size_t t, size_t steps, size_t B) { return (row / B * steps + t) * B + row % B; }

/* out[i] += left[i] @ right for up to ROWS rows: left[i] [K], right [K, N], N a multiple of 16. */
#define PRODUCT(NAME, M)                                                                                              \
    static void NAME(float *const *out, const float *const *left, const float *restrict right, size_t K, size_t N) {  \
        size_t column = 0;                                                                                            \
        for (; column + COLUMNS * LANES <= N; column += COLUMNS * LANES) {                                            \
            vec sum[M][COLUMNS];                                                                                      \
            for (int i = 0; i < M; i++)                                                                               \
                for (int j = 0; j < COLUMNS; j++) sum[i][j] = load(out[i] + column + j * LANES);                      \
            for (size_t k = 0; k < K; k++) {                                                                          \
                const float *b = right + k * N + column;                                                              \
                for (int j = 0; j < COLUMNS; j++) {                                                                   \
                    vec weights = load(b + j * LANES);                                                                \
                    for (int i = 0; i < M; i++) sum[i][j] += left[i][k] * weights;                                    \
                }                                                                                                     \
            }                                                                                                         \
            for (int i = 0; i < M; i++)                                                                               \
                for (int j = 0; j < COLUMNS; j++) store(out[i] + column + j * LANES, sum[i][j]);                      \
        }                                                                                                             \
        for (; column < N; column += LANES) {                                                                         \
            vec sum[M];                                                                                               \
            for (int i = 0; i < M; i++) sum[i] = load(out[i] + column);                                               \
            for (size_t k = 0; k < K; k++) {                                                                          \
                vec weights = load(right + k * N + column);                                                           \
                for (int i = 0; i < M; i++) sum[i] += left[i][k] * weights;                                           \
            }                                                                                                         \
            for (int i = 0; i < M; i++) store(out[i] + column, sum[i]);                                               \
        }                                                                                                             \
    }

PRODUCT(product_of_rows, ROWS)
PRODUCT(product_of_row, 1)

static void product(float *const *out, const float *const *left, const float *right, size_t K, size_t N, size_t rows) {
    if (rows == ROWS) {
        product_of_rows(out, left, right, K, N);
        return;
    }
    for (size_t i = 0; i < rows; i++) product_of_row(out + i, left + i, right, K, N);
}

/* gates [N, T, B, 3H], the inputs' share; weight [H, 3H], W_hh transposed; bias [3H], b_hh; states, of which the first
   step is given; scratch [ROWS, 3H]. For the way back, unless `squashed` is null: squashed [N, T, B, 2H] (r and z),
   share [N, T, B, H] (the state's share of the new gate), new [N, T, B, H]. */
void gru_forward(size_t R, size_t T, size_t B, size_t H, const float *gates, const float *weight,
                 const float *bias, float *states, float *squashed, float *share, float *new, float *scratch) {
    const float *before[ROWS];
    float *after[ROWS], *gate[ROWS];
    for (size_t i = 0; i < ROWS; i++) gate[i] = scratch + i * 3 * H;
    for (size_t first = 0; first < R; first += ROWS) {
        size_t rows = R - first < ROWS ? R - first : ROWS;
        for (size_t i = 0; i < rows; i++) after[i] = states + at(first + i, 0, T + 1, B) * H;
        for (size_t t = 0; t < T; t++) {
            for (size_t i = 0; i < rows; i++) {
                before[i] = after[i];
                after[i] += B * H;
                memcpy(gate[i], bias, 3 * H * sizeof(float));
            }
            product(gate, before, weight, H, 3 * H, rows);
            for (size_t i = 0; i < rows; i++) {
                size_t row = at(first + i, t, T, B);
                const float *input = gates + row * 3 * H, *g = gate[i];
                for (size_t h = 0; h < H; h += LANES) {
                    vec r = sigmoid(load(input + h) + load(g + h));
                    vec z = sigmoid(load(input + H + h) + load(g + H + h));
                    vec g_n = load(g + 2 * H + h);
                    vec n = tangent(load(input + 2 * H + h) + r * g_n);
                    store(after[i] + h, n + z * (load(before[i] + h) - n));
                    if (squashed) {
                        store(squashed + row * 2 * H + h, r);
                        store(squashed + row * 2 * H + H + h, z);
                        store(share + row * H + h, g_n);
                        store(new + row * H + h, n);
                    }
                }
            }
        }
    }
}

/* grad_states [N, T, B, H]; weight [3H, H], W_hh; the others as `gru_forward` left them. Gives grads [N, T, B, 4H]: by
   the inputs' share of the new gate, by the reset and update gates before squashing, and by the state's share of the
   new gate, so that what the inputs' weights need and what the state's need lie in one piece each. scratch [ROWS, H]. */
void gru_backward(size_t R, size_t T, size_t B, size_t H, const float *grad_states, const float *weight,
                  const float *states, const float *squashed, const float *share, const float *new, float *grads,
                  float *scratch) {
    const float *by_state[ROWS];
    float *carried[ROWS];
    for (size_t i = 0; i < ROWS; i++) carried[i] = scratch + i * H;
    for (size_t first = 0; first < R; first += ROWS) {
        size_t rows = R - first < ROWS ? R - first : ROWS;
        memset(scratch, 0, rows * H * sizeof(float));
        for (size_t t = T; t-- > 0;) {
            for (size_t i = 0; i < rows; i++) {
                size_t row = at(first + i, t, T, B);
                const float *rz = squashed + row * 2 * H, *before = states + at(first + i, t, T + 1, B) * H;
                float *grad = grads + row * 4 * H;
                by_state[i] = grad + H;
                for (size_t h = 0; h < H; h += LANES) {
                    vec r = load(rz + h), z = load(rz + H + h), n = load(new + row * H + h);
                    vec total = load(carried[i] + h) + load(grad_states + row * H + h);
                    vec by_n = total * (1.0f - z) * (1.0f - n * n);
                    store(grad + h, by_n);
                    store(grad + H + h, by_n * load(share + row * H + h) * r * (1.0f - r));
                    store(grad + 2 * H + h, total * (load(before + h) - n) * z * (1.0f - z));
                    store(grad + 3 * H + h, by_n * r);
                    store(carried[i] + h, total * z);
                }
            }
            product(carried, by_state, weight, 3 * H, H, rows);
        }
    }
}
