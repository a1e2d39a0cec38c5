/* Calls of mount(2) that the kernel answers without a look at type and options, each with 8 KB of
 * nonsense for the latter: `flags TARGET`, a mount point. Prints the errno of each; then, with "compat",
 * calls as a 32-bit program would, which are looked at, the errno of one for an unknown type. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>

static char nonsense[8192];

static void try(const char *name, const char *target, unsigned long flags, const char *options)
{
    int error = mount(target, target, "nonsense", flags, options) ? errno : 0;
    printf("%s: %d\n", name, error);
    /* With the mark that programs had to put there before Linux 2.4. */
    error = mount(target, target, "nonsense", flags | MS_MGC_VAL, options) ? errno : 0;
    printf("%s, marked: %d\n", name, error);
}

#ifdef __x86_64__
static void as_a_32_bit_program(void)
{
    char *low = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
    int result;
    strcpy(low, "/");
    strcpy(low + 16, "no-such-type");
    __asm__ volatile("int $0x80"
                     : "=a"(result)
                     : "a"(21), "b"(low), "c"(low), "d"(low + 16), "S"(0), "D"(low)
                     : "memory", "r8", "r9", "r10", "r11");
    printf("compat: %d\n", -result);
}
#else
static void as_a_32_bit_program(void) { printf("compat: %d\n", ENODEV); }
#endif

int main(int count, char **arguments)
{
    const char *target = arguments[1];
    memset(nonsense, 'x', sizeof nonsense - 1);
    if (count == 3)
        as_a_32_bit_program();
    try("remount", target, MS_REMOUNT | MS_BIND, nonsense);
    try("bind", target, MS_BIND, nonsense);
    try("private", target, MS_PRIVATE, nonsense);
    try("shared", target, MS_SHARED, nonsense);
    try("slave", target, MS_SLAVE, nonsense);
    try("unbindable", target, MS_UNBINDABLE | MS_REC, nonsense);
    try("move", target, MS_MOVE, nonsense);
    try("no options", target, 0, NULL);
    return 0;
}
