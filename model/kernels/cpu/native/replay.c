/* A recorded pass: kernels one after the other, run by one team of threads.
 *
 * Threads meet at the barriers that end the kernels' loops, and are started once a pass instead of
 * once a kernel. How a kernel's work is split depends on the team alone, so results are the same.
 */
#include "lanes.h"

#define MOST_ARGUMENTS 15

/* `_Step` of recording.py. */
typedef struct {
    void (*run)(const int64_t *);
    int64_t arguments[MOST_ARGUMENTS];
} step_t;

void overlock_replay(const step_t *steps, int64_t count) {
#pragma omp parallel
    for (int64_t i = 0; i < count; i++) {
        steps[i].run(steps[i].arguments);
    }
}
