/* Makes system calls by number through each way into an x86 kernel and prints what came back.
 *
 * Words: an ABI (n: syscall, i: int 0x80, x: syscall with the x32 bit), a number, up to four
 * arguments; `@` is the address of four ints that follow (for socketcall), `,` ends a call.
 * Built without a C library, at addresses below 4 GiB, so that one program reaches both ABIs.
 */
typedef long word;

static word native(word nr, word a, word b, word c, word d) {
    word result;
    register word r10 __asm__("r10") = d;
    __asm__ volatile("syscall"
                     : "=a"(result)
                     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                     : "rcx", "r11", "memory");
    return result;
}

static word i386(word nr, word a, word b, word c, word d) {
    int result;
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"((int)nr), "b"((int)a), "c"((int)b), "d"((int)c), "S"((int)d)
                     : "r8", "r9", "r10", "r11", "memory");
    return result;
}

static word number(const char *text) {
    word value = 0, sign = 1;
    if (*text == '-') sign = -1, text++;
    for (; *text; text++) value = value * 10 + (*text - '0');
    return sign * value;
}

static void print(word value) {
    char buffer[24], *at = buffer + sizeof buffer;
    word rest = value < 0 ? -value : value;
    *--at = '\n';
    do *--at = '0' + rest % 10; while (rest /= 10);
    if (value < 0) *--at = '-';
    native(1, 1, (word)at, buffer + sizeof buffer - at, 0);
}

static int block[4];

void run(word *stack) {
    char **argv = (char **)(stack + 1);
    for (argv++; *argv; argv++) {
        char abi = **argv++;
        word nr = number(*argv++), args[4] = {0, 0, 0, 0}, n = 0;
        for (; *argv && **argv != ','; argv++) {
            if (**argv != '@') { args[n++] = number(*argv); continue; }
            args[n++] = (word)block;
            for (int i = 0; i < 4 && argv[1] && argv[1][0] != ','; i++) block[i] = number(*++argv);
        }
        if (abi == 'x') nr |= 0x40000000;
        word result = (abi == 'i' ? i386 : native)(nr, args[0], args[1], args[2], args[3]);
        print(result > 0 ? 1 : result);
        if (!*argv) break;
    }
    native(60, 0, 0, 0, 0);
}

__asm__(".globl _start\n_start: mov %rsp, %rdi\n and $-16, %rsp\n call run\n");
