/* thanos --serve: answers a request a line until standard input ends. See docs/vectors.md. */
#define _POSIX_C_SOURCE 200809L /* fork: a request is answered by a process of its own, so that nothing stays of it */
#include "thanos.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

enum { MAX_LINE = 1 << 14, MAX_MESSAGE = 1 << 12 };

static void print_text(const char *text) /* as JSON */
{
    putchar('"');
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        if (byte == '"' || byte == '\\')
            putchar('\\');
        putchar(byte < ' ' ? ' ' : byte > '~' ? '?' : byte);
    }
    putchar('"');
}

/* Prunes a file in a process of its own. Returns its status as waitpid gives it, and what it says on standard error. */
static int prune_apart(const char *input, const char *output, char message[MAX_MESSAGE])
{
    int ends[2], status;
    if (pipe(ends))
        fail("no pipe can be made");
    pid_t child = fork();
    if (child < 0)
        fail("no process can be started");
    if (!child) {
        if (dup2(ends[1], STDERR_FILENO) < 0)
            fail("standard error cannot be sent to the pipe");
        prune_file(input, output);
        exit(0);
    }
    close(ends[1]);
    FILE *said = fdopen(ends[0], "r");
    if (!said)
        fail("out of memory");
    message[fread(message, 1, MAX_MESSAGE - 1, said)] = '\0';
    fclose(said);
    if (waitpid(child, &status, 0) < 0)
        fail("a process is lost");
    return status;
}

static void answer(const struct archive *request)
{
    char message[MAX_MESSAGE];
    int status = prune_apart(setting(request, "input"), setting(request, "output"), message);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
    fputs("{\"id\": ", stdout);
    print_text(setting(request, "id"));
    printf(", \"status\": \"%s\", \"message\": ", code == 0 ? "done" : code == 2 ? "refused" : "failed");
    print_text(message);
    puts("}");
}

void serve(void)
{
    char *line = allocate(MAX_LINE, 1);
    struct archive *request = allocate(1, sizeof *request);
    puts("{\"status\": \"ready\"}");
    fflush(stdout); /* before every fork too: the child would print what is left in the buffer */
    while (fgets(line, MAX_LINE, stdin)) {
        read_request(line, request);
        answer(request);
        fflush(stdout);
    }
    free(request);
    free(line);
}
