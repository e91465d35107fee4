/* A COLO Secondary of the patch's own profile, in plain sockets: `patch_secondary unix:PATH`.
 *
 * Nothing but the seven messages is on the wire. A process for each link ends, which closes it, at anything
 * out of order.
 */
#include <arpa/inet.h>
#include <err.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED };

static void say(int link, uint32_t message) {
    message = htonl(message);
    if (write(link, &message, sizeof message) != sizeof message) err(1, "the link takes nothing");
}

static void expect(int link, uint32_t known) {
    uint32_t found;
    if (recv(link, &found, sizeof found, MSG_WAITALL) != sizeof found) errx(1, "gives up: the link has ended");
    if (ntohl(found) != known) errx(1, "gives up: %u in place of %u", ntohl(found), known);
}

static void run(int link) {
    say(link, READY);
    for (;;) { /* a checkpoint */
        expect(link, REQUEST);
        say(link, REPLY);
        expect(link, SEND);
        say(link, RECEIVED);
        say(link, LOADED);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_un where = {.sun_family = AF_UNIX};
    if (argc != 2 || strncmp(argv[1], "unix:", 5)) errx(2, "usage: patch_secondary unix:PATH");
    snprintf(where.sun_path, sizeof where.sun_path, "%s", argv[1] + 5);
    int listener = socket(AF_UNIX, SOCK_STREAM, 0);
    if (bind(listener, (struct sockaddr *)&where, sizeof where) || listen(listener, 16)) err(1, "%s", argv[1]);
    signal(SIGCHLD, SIG_IGN);
    for (;;) {
        int link = accept(listener, NULL, NULL);
        if (link >= 0 && fork() == 0) run(link);
        close(link);
    }
}
