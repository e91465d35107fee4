/* A COLO Secondary in plain sockets, from docs/protocol.md: `secondary ADDRESS`.
 *
 * ADDRESS is unix:PATH or tcp:HOST:PORT. A process for each link holds its guest, and ends, which closes
 * the link, at anything out of order.
 */
#include <arpa/inet.h>
#include <err.h>
#include <netdb.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

enum { READY, REQUEST, REPLY, SEND, SIZE, RECEIVED, LOADED, LIFE = 0x4c494645 };
enum { END, START, PART, LAST, DEVICE, DESCRIPTION = 6, CONFIGURATION, FOOTER = 0x7e };
enum { ZERO = 0x02, MEM_SIZE = 0x04, PAGE = 0x08, EOS = 0x10, CONTINUE = 0x20, FLAGS = 0xfff };
enum { PAGE_SIZE = 4096, BLOCKS = 16, MOST = 1 << 28 };

/* The guest: `memory` and `device` are its newest checkpoint, `next` is what the round makes of the memory. */
static struct block { char name[256]; uint64_t size; char *memory, *next; } blocks[BLOCKS], *block;
static char *device;
static uint64_t ram;
static int count, signs, link_;
static FILE *file;

static void must(int right, const char *problem) {
    if (!right) errx(1, "gives up: %s", problem);
}

static void *room(uint64_t size) {
    void *made = size <= MOST ? calloc(1, size + 1) : NULL;
    must(made != NULL, "too much in one piece");
    return made;
}

static void take(void *to, uint64_t size) {
    must(fread(to, 1, size, file) == size, "the link, or the state, has ended");
}

static uint64_t number(int size) {
    uint64_t value = 0;
    for (unsigned char byte; size--; value = value << 8 | byte) take(&byte, 1);
    return value;
}

static char *text(uint64_t size) {
    char *made = room(size);
    take(made, size);
    return made;
}

static void say(uint32_t message) {
    message = htonl(message);
    must(write(link_, &message, 4) == 4, "the link takes nothing");
}

static void hear(uint64_t expected) {
    uint64_t message;
    while ((message = number(4)) == LIFE && signs) continue;
    must(message == expected, "a message out of order");
}

static int section(void) {
    int kind;
    while ((kind = number(1)) == LIFE >> 24 && signs) must(number(3) == (LIFE & 0xffffff), "no sign of life");
    return kind;
}

static uint64_t head(const char *name, uint64_t version) {
    uint64_t id = number(4);
    char *found = text(number(1));
    must(!strcmp(found, name) && number(8) == version, "another section than expected");
    free(found);
    return id;
}

static void foot(uint64_t id) {
    must(number(1) == FOOTER && number(4) == id, "no footer");
}

static struct block *named(const char *name) {
    for (int i = 0; i < count; i++)
        if (!strcmp(blocks[i].name, name)) return blocks + i;
    return NULL;
}

static void pages(void) {
    must(number(4) == ram, "pages in another section than RAM");
    for (uint64_t word; (word = number(8)) != EOS;) {
        uint64_t at = word & ~(uint64_t)FLAGS, kind = word & FLAGS & ~CONTINUE;
        char name[256] = "";
        if (!(word & CONTINUE)) {
            take(name, number(1));
            block = named(name);
        }
        must(block && at < block->size && (kind == PAGE || kind == ZERO), "no page");
        if (kind == PAGE) take(block->next + at, PAGE_SIZE);
        else memset(block->next + at, (int)number(1), PAGE_SIZE);
    }
    foot(ram);
}

static char *guest(void) {
    must(section() == DEVICE, "no device section");
    uint64_t id = head("guest", 1);
    char *state = text(number(4));
    foot(id);
    must(section() == END, "no end of the state");
    return state;
}

/* The device state of a round: all of these bytes, and no more. */
static char *state(uint64_t size) {
    FILE *link = file;
    char *whole = text(size);
    must((file = fmemopen(whole, size, "r")) != NULL, "no state");
    char *found = guest();
    must(getc(file) == EOF, "bytes behind the state");
    fclose(file);
    free(whole);
    file = link;
    return found;
}

static void store(char *state) {
    free(device);
    device = state;
    for (int i = 0; i < count; i++) memcpy(blocks[i].memory, blocks[i].next, blocks[i].size);
}

static void initial(void) {
    must(number(8) == 0x5145564d00000003 && number(1) == CONFIGURATION, "no migration stream");
    signs = !strcmp(text(number(4)), "colo-fsm");
    must(section() == START, "no start of RAM");
    ram = head("ram", 4);
    for (uint64_t left = number(8) - MEM_SIZE; left; left -= blocks[count++].size) {
        must(count < BLOCKS, "too many blocks");
        take(blocks[count].name, number(1));
        blocks[count].size = number(8);
        must(blocks[count].size - 1 < left && blocks[count].size % PAGE_SIZE == 0, "no block list");
        blocks[count].memory = room(blocks[count].size);
        blocks[count].next = room(blocks[count].size);
    }
    must(number(8) == EOS, "no end of the block list");
    foot(ram);
    int kind;
    for (; (kind = section()) == PART;) pages();
    must(kind == LAST, "no end of RAM");
    pages();
    must(section() == DEVICE, "no generation");
    uint64_t id = head("colo-fsm/generation", 1);
    number(8);
    foot(id);
    store(guest());
    must(number(1) == DESCRIPTION, "no description");
    free(text(number(4)));
}

static void hold(void) {
    initial();
    for (say(READY);; say(LOADED)) {
        hear(REQUEST);
        say(REPLY);
        hear(SEND);
        for (int kind; (kind = section()) != END; pages()) must(kind == PART || kind == LAST, "no live state");
        hear(SIZE);
        store(state(number(8)));
        say(RECEIVED);
    }
}

static int listening(char *address) {
    struct sockaddr_un path = {.sun_family = AF_UNIX};
    struct addrinfo local = {.ai_family = AF_UNIX, .ai_addr = (void *)&path, .ai_addrlen = sizeof path};
    struct addrinfo *where = &local, hints = {.ai_socktype = SOCK_STREAM};
    char *host = strchr(address, ':') + 1, *port = strrchr(host, ':');
    snprintf(path.sun_path, sizeof path.sun_path, "%s", host);
    if (!strncmp(address, "tcp:", 4)) {
        *port++ = 0;
        if (getaddrinfo(host, port, &hints, &where)) errx(1, "%s is not known", host);
    }
    int listener = socket(where->ai_family, SOCK_STREAM, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int));
    if (bind(listener, where->ai_addr, where->ai_addrlen) || listen(listener, 5)) err(1, "%s", address);
    return listener;
}

int main(int argc, char **argv) {
    int listener = argc == 2 ? listening(argv[1]) : -1;
    signal(SIGCHLD, SIG_IGN);
    while ((link_ = accept(listener, NULL, NULL)) >= 0) {
        if (!fork()) {
            file = fdopen(link_, "r");
            hold();
        }
        close(link_);
    }
    err(1, "%s ADDRESS", argv[0]);
}
