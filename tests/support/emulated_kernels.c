/* Calls CPU kernels for a test, in an emulator of another processor.
 *
 * A request on the standard input is the kernel's name and its arguments: numbers, buffers with
 * their bytes, or the position of a buffer that was given before. The answer is what the kernel returned, and every buffer's bytes. All integers are
 * int64 in the order of a little-endian processor.
 *
 * KERNELS is a list of KERNEL(name), given to the compiler.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MAX_ARGUMENTS 16
enum { NUMBER = -1, AGAIN = -2 }; /* in place of a buffer's bytes */

/* Every argument in a register or a slot of 8 bytes, which is where both ABIs have them. */
typedef int64_t (*kernel_t)(
    int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t, int64_t,
    int64_t, int64_t, int64_t, int64_t, int64_t, int64_t);

#define KERNEL(name) extern void name(void);
KERNELS
#undef KERNEL

static const struct {
    const char *name;
    void (*function)(void);
} kernels[] = {
#define KERNEL(name) {#name, name},
    KERNELS
#undef KERNEL
};

static int read_all(void *target, size_t bytes) { return fread(target, 1, bytes, stdin) == bytes; }

static int64_t read_number(void) {
    int64_t number = 0;
    if (!read_all(&number, sizeof number)) {
        exit(0); /* the test is over */
    }
    return number;
}

int main(void) {
    for (;;) {
        char name[64] = {0};
        int64_t length = read_number();
        if (length >= (int64_t)sizeof name || !read_all(name, (size_t)length)) {
            return 2;
        }
        kernel_t kernel = NULL;
        for (size_t at = 0; at < sizeof kernels / sizeof *kernels; at++) {
            if (!strcmp(name, kernels[at].name)) {
                kernel = (kernel_t)kernels[at].function;
            }
        }
        int64_t count = read_number();
        if (!kernel || count > MAX_ARGUMENTS) {
            return 3;
        }
        int64_t a[MAX_ARGUMENTS] = {0}, bytes[MAX_ARGUMENTS];
        for (int64_t at = 0; at < count; at++) {
            bytes[at] = read_number();
            if (bytes[at] == NUMBER) {
                a[at] = read_number();
            } else if (bytes[at] == AGAIN) {
                a[at] = a[read_number()];
            } else {
                /* As aligned as PyTorch's tensors: the kernels read whole vectors of taps. */
                void *buffer = aligned_alloc(64, ((size_t)bytes[at] + 63) / 64 * 64);
                if (!buffer || !read_all(buffer, (size_t)bytes[at])) {
                    return 4;
                }
                a[at] = (int64_t)(intptr_t)buffer;
            }
        }
        int64_t result = kernel(
            a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], a[8], a[9], a[10], a[11], a[12], a[13],
            a[14], a[15]);
        fwrite(&result, sizeof result, 1, stdout);
        for (int64_t at = 0; at < count; at++) {
            if (bytes[at] >= 0) {
                fwrite((void *)(intptr_t)a[at], 1, (size_t)bytes[at], stdout);
                free((void *)(intptr_t)a[at]);
            }
        }
        fflush(stdout);
    }
}
