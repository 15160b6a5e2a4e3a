/* The recurrence of a GRU over time, forward and back: what `models/gru.py` computes step by step in PyTorch.

   Rows (an agent's episode each) do not depend on one another, so a few rows at a time are taken through all time
   steps, with their state in registers or the first cache.

   Shapes: T time steps, R rows, H hidden size, a multiple of 16. Gates lie side by side: reset, update, new. */

#include "vectors.h"

#define ROWS 6          /* rows taken together: ROWS x COLUMNS sums fill the registers of AVX-512 */
#define COLUMNS 4       /* vectors of columns taken together */

/* out[i] += left[i] @ right for up to ROWS rows: left [rows, K], right [K, N], N a multiple of 16. */
#define PRODUCT(NAME, M)                                                                                              \
    static void NAME(float *restrict out, size_t out_stride, const float *restrict left, size_t left_stride,          \
                     const float *restrict right, size_t K, size_t N) {                                               \
        size_t column = 0;                                                                                            \
        for (; column + COLUMNS * LANES <= N; column += COLUMNS * LANES) {                                            \
            vec sum[M][COLUMNS];                                                                                      \
            for (int i = 0; i < M; i++)                                                                               \
                for (int j = 0; j < COLUMNS; j++) sum[i][j] = load(out + i * out_stride + column + j * LANES);         \
            for (size_t k = 0; k < K; k++) {                                                                          \
                const float *b = right + k * N + column;                                                              \
                for (int j = 0; j < COLUMNS; j++) {                                                                   \
                    vec weights = load(b + j * LANES);                                                                \
                    for (int i = 0; i < M; i++) sum[i][j] += left[i * left_stride + k] * weights;                     \
                }                                                                                                     \
            }                                                                                                         \
            for (int i = 0; i < M; i++)                                                                               \
                for (int j = 0; j < COLUMNS; j++) store(out + i * out_stride + column + j * LANES, sum[i][j]);         \
        }                                                                                                             \
        for (; column < N; column += LANES) {                                                                         \
            vec sum[M];                                                                                               \
            for (int i = 0; i < M; i++) sum[i] = load(out + i * out_stride + column);                                 \
            for (size_t k = 0; k < K; k++) {                                                                          \
                vec weights = load(right + k * N + column);                                                           \
                for (int i = 0; i < M; i++) sum[i] += left[i * left_stride + k] * weights;                            \
            }                                                                                                         \
            for (int i = 0; i < M; i++) store(out + i * out_stride + column, sum[i]);                                 \
        }                                                                                                             \
    }

PRODUCT(product_of_rows, ROWS)
PRODUCT(product_of_row, 1)

static void product(float *out, size_t out_stride, const float *left, size_t left_stride, const float *right, size_t K,
                    size_t N, size_t rows) {
    if (rows == ROWS) {
        product_of_rows(out, out_stride, left, left_stride, right, K, N);
        return;
    }
    for (size_t i = 0; i < rows; i++)
        product_of_row(out + i * out_stride, out_stride, left + i * left_stride, left_stride, right, K, N);
}

/* gates [T, R, 3H], the inputs' share; weight [H, 3H], W_hh transposed; bias [3H], b_hh; states [T + 1, R, H], of which
   the first is given; scratch [ROWS, 3H]. For the way back, unless `squashed` is null: squashed [T, R, 2H] (r and z),
   share [T, R, H] (the state's share of the new gate), new [T, R, H]. */
void gru_forward(size_t T, size_t R, size_t H, const float *gates, const float *weight, const float *bias,
                 float *states, float *squashed, float *share, float *new, float *scratch) {
    for (size_t first = 0; first < R; first += ROWS) {
        size_t rows = R - first < ROWS ? R - first : ROWS;
        for (size_t t = 0; t < T; t++) {
            const float *before = states + (t * R + first) * H;
            float *after = states + ((t + 1) * R + first) * H;
            for (size_t i = 0; i < rows; i++) memcpy(scratch + i * 3 * H, bias, 3 * H * sizeof(float));
            product(scratch, 3 * H, before, H, weight, H, 3 * H, rows);
            for (size_t i = 0; i < rows; i++) {
                size_t row = t * R + first + i;
                const float *input = gates + row * 3 * H, *g = scratch + i * 3 * H;
                for (size_t h = 0; h < H; h += LANES) {
                    vec r = sigmoid(load(input + h) + load(g + h));
                    vec z = sigmoid(load(input + H + h) + load(g + H + h));
                    vec g_n = load(g + 2 * H + h);
                    vec n = tangent(load(input + 2 * H + h) + r * g_n);
                    store(after + i * H + h, n + z * (load(before + i * H + h) - n));
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

/* grad_states [T, R, H]; weight [3H, H], W_hh; the others as `gru_forward` left them. Gives grads [T, R, 4H]: by the
   reset and update gates before squashing, by the state's share of the new gate, and by the inputs' share of it.
   scratch [ROWS, H]. */
void gru_backward(size_t T, size_t R, size_t H, const float *grad_states, const float *weight, const float *states,
                  const float *squashed, const float *share, const float *new, float *grads, float *scratch) {
    for (size_t first = 0; first < R; first += ROWS) {
        size_t rows = R - first < ROWS ? R - first : ROWS;
        memset(scratch, 0, rows * H * sizeof(float));
        for (size_t t = T; t-- > 0;) {
            for (size_t i = 0; i < rows; i++) {
                size_t row = t * R + first + i;
                const float *rz = squashed + row * 2 * H;
                float *grad = grads + row * 4 * H, *carried = scratch + i * H;
                for (size_t h = 0; h < H; h += LANES) {
                    vec r = load(rz + h), z = load(rz + H + h), n = load(new + row * H + h);
                    vec total = load(carried + h) + load(grad_states + row * H + h);
                    vec by_n = total * (1.0f - z) * (1.0f - n * n);
                    store(grad + h, by_n * load(share + row * H + h) * r * (1.0f - r));
                    store(grad + H + h, total * (load(states + row * H + h) - n) * z * (1.0f - z));
                    store(grad + 2 * H + h, by_n * r);
                    store(grad + 3 * H + h, by_n);
                    store(carried + h, total * z);
                }
            }
            product(scratch, H, grads + (t * R + first) * 4 * H, 4 * H, weight, 3 * H, H, rows);
        }
    }
}
