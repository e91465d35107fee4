/* A guest in place of firmware that answers over its network cards and counts its answers.

   Polls one rtl8139 for each card: no interrupts, no BIOS. ARP; UDP port 7 and TCP port 7: an answer is the
   request's first 8 bytes and the count, a big-endian u32; UDP port 9: u32 n, u16 size: n packets of that size,
   numbered. `answering_guest.py` builds it, and says where the count lies. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;

#define RING 32768
#define CONNECTIONS 16

/* The reset vector comes here in real mode, at f000:0: to flat protected mode, and on. */
__asm__(".section .start, \"ax\"\n.code16\n"
        "cli\n"
        "lgdtl %cs:gdt_pointer_16\n"
        "movl %cr0, %eax\norb $1, %al\nmovl %eax, %cr0\n"
        "ljmpl $8, $flat\n"
        ".balign 8\n"
        "gdt: .quad 0, 0x00cf9b000000ffff, 0x00cf93000000ffff\n"
        ".globl gdt_pointer\ngdt_pointer: .word 23\n.long gdt\n"
        ".code32\n"
        "flat: movw $16, %ax\nmovw %ax, %ds\nmovw %ax, %es\nmovw %ax, %ss\n"
        "movl $0x90000, %esp\n"
        "call serve\n"
        ".text\n");

struct card {
    u16 port;
    u32 address;
    u32 at;
    u32 descriptor;
    u8 mac[6];
    u8 ring[RING + 2048] __attribute__((aligned(16)));
    u8 out[4][2048] __attribute__((aligned(16)));
};

struct connection {
    u32 address, sent, expected, length;
    u16 port, open;
    u8 answer[12];
};

extern u32 answers;
static struct card cards[2];
static struct connection connections[CONNECTIONS];

static void out8(u16 port, u8 value) { __asm__ volatile("outb %0, %1" ::"a"(value), "Nd"(port)); }
static void out16(u16 port, u16 value) { __asm__ volatile("outw %0, %1" ::"a"(value), "Nd"(port)); }
static void out32(u16 port, u32 value) { __asm__ volatile("outl %0, %1" ::"a"(value), "Nd"(port)); }
static u8 in8(u16 port) { u8 value; __asm__ volatile("inb %1, %0" : "=a"(value) : "Nd"(port)); return value; }
static u32 in32(u16 port) { u32 value; __asm__ volatile("inl %1, %0" : "=a"(value) : "Nd"(port)); return value; }

static u32 get16(const u8 *at) { return at[0] << 8 | at[1]; }
static u32 get32(const u8 *at) { return get16(at) << 16 | get16(at + 2); }
static void put16(u8 *at, u32 value) { at[0] = value >> 8; at[1] = value; }
static void put32(u8 *at, u32 value) { put16(at, value >> 16); put16(at + 2, value); }
static void copy(u8 *to, const u8 *from, u32 count) { while (count--) *to++ = *from++; }

static u32 sum(const u8 *at, u32 count, u32 from)
{
    for (; count > 1; at += 2, count -= 2)
        from += get16(at);
    return count ? from + (at[0] << 8) : from;
}

static u32 folded(u32 value)
{
    while (value >> 16)
        value = (value & 0xffff) + (value >> 16);
    return ~value & 0xffff;
}

static u32 configured(u32 slot, u32 where, u32 value)
{
    out32(0xcf8, 0x80000000 | slot << 11 | where);
    if (value)
        out32(0xcfc, value);
    return in32(0xcfc);
}

static int found(struct card *card, u32 number)
{
    u32 slot = 4 + number;
    if (configured(slot, 0, 0) != 0x813910ec)
        return 0;
    card->port = 0xc000 + 0x100 * number;
    card->address = 0x0a00020f + (number << 8);
    configured(slot, 0x10, card->port);
    configured(slot, 4, 5); /* I/O ports, and memory that the card writes */
    out8(card->port + 0x37, 0x10);
    while (in8(card->port + 0x37) & 0x10)
        ;
    for (u32 i = 0; i < 6; i++)
        card->mac[i] = in8(card->port + i);
    out32(card->port + 0x30, (u32)card->ring);
    out16(card->port + 0x3c, 0);
    out32(card->port + 0x44, 2 << 11 | 7 << 8 | 0x80 | 0x0f); /* 32 KiB, no wrap in a packet, all packets */
    out8(card->port + 0x37, 0x0c);
    return 1;
}

static u8 *outgoing(struct card *card)
{
    while (!(in32(card->port + 0x10 + 4 * card->descriptor) & 0x2000))
        ;
    return card->out[card->descriptor];
}

static void leaves(struct card *card, u32 size)
{
    for (; size < 60; size++)
        card->out[card->descriptor][size] = 0;
    out32(card->port + 0x20 + 4 * card->descriptor, (u32)card->out[card->descriptor]);
    out32(card->port + 0x10 + 4 * card->descriptor, size);
    card->descriptor = (card->descriptor + 1) % 4;
}

/* An IP packet back to whoever sent `in`, with `size` bytes of payload to be put where this points. */
static u8 *back(struct card *card, const u8 *in, u32 protocol, u32 size)
{
    u8 *out = outgoing(card), *ip = out + 14;
    copy(out, in + 6, 6);
    copy(out + 6, card->mac, 6);
    put16(out + 12, 0x0800);
    put32(ip, 0x45000000 | (20 + size));
    put32(ip + 4, 0x00004000);
    put32(ip + 8, 64u << 24 | protocol << 16);
    copy(ip + 12, in + 30, 4);
    copy(ip + 16, in + 26, 4);
    put16(ip + 10, folded(sum(ip, 20, 0)));
    return ip + 20;
}

static u8 *datagram(struct card *card, const u8 *in, u32 size)
{
    u8 *udp = back(card, in, 17, 8 + size);
    copy(udp, in + 36, 2);
    copy(udp + 2, in + 34, 2);
    put32(udp + 4, (8 + size) << 16);
    return udp + 8;
}

static void udp(struct card *card, const u8 *in)
{
    const u8 *asked = in + 42;
    if (get16(in + 36) == 7) {
        u8 *answer = datagram(card, in, 12);
        copy(answer, asked, 8);
        put32(answer + 8, ++answers);
        leaves(card, 14 + 20 + 8 + 12);
    } else if (get16(in + 36) == 9) {
        for (u32 i = 0, count = get32(asked), size = get16(asked + 4); i < count; i++) {
            put32(datagram(card, in, size), i);
            leaves(card, 14 + 20 + 8 + size);
        }
    }
}

static void segment(struct card *card, const u8 *in, struct connection *to, u32 flags, u32 number, u32 size)
{
    u8 *tcp = back(card, in, 6, 20 + size);
    copy(tcp, in + 36, 2);
    copy(tcp + 2, in + 34, 2);
    put32(tcp + 4, number);
    put32(tcp + 8, to->expected);
    put32(tcp + 12, 0x50002000 | flags << 16);
    put32(tcp + 16, 0);
    copy(tcp + 20, to->answer, size);
    put16(tcp + 16, folded(sum(tcp, 20 + size, sum(tcp - 8, 8, 6 + 20 + size))));
    leaves(card, 14 + 20 + 20 + size);
}

static void tcp(struct card *card, const u8 *in)
{
    const u8 *head = in + 34;
    u32 number = get32(head + 4), flags = head[13], offset = head[12] >> 4;
    u32 size = get16(in + 16) - 20 - 4 * offset, address = get32(in + 26), port = get16(head);
    struct connection *to = &connections[port % CONNECTIONS];
    if (get16(head + 2) != 7)
        return;
    if (flags & 2) { /* SYN */
        *to = (struct connection){.address = address, .port = port, .open = 1};
        to->expected = number + 1;
        to->sent = number * 31 + port;
        segment(card, in, to, 0x12, to->sent++, 0);
    } else if (!to->open || to->address != address || to->port != port) {
        return;
    } else if (flags & 4) { /* RST */
        to->open = 0;
    } else if (size >= 8 && number == to->expected) {
        to->expected += size;
        copy(to->answer, head + 4 * offset, 8);
        put32(to->answer + 8, ++answers);
        segment(card, in, to, 0x18, to->sent, 12);
        to->sent += 12;
    } else if (size) { /* again, for want of our answer */
        segment(card, in, to, 0x18, to->sent - 12, 12);
    } else if (flags & 1 && number == to->expected) { /* FIN */
        to->expected++;
        segment(card, in, to, 0x11, to->sent++, 0);
    }
}

static void resolve(struct card *card, const u8 *in)
{
    u8 *out = outgoing(card);
    copy(out, in + 6, 6);
    copy(out + 6, card->mac, 6);
    copy(out + 12, in + 12, 8);
    put16(out + 20, 2);
    copy(out + 22, card->mac, 6);
    copy(out + 28, in + 38, 4);
    copy(out + 32, in + 22, 10);
    leaves(card, 42);
}

static void answer(struct card *card, const u8 *in)
{
    if (get16(in + 12) == 0x0806 && get16(in + 20) == 1 && get32(in + 38) == card->address)
        resolve(card, in);
    if (get16(in + 12) != 0x0800 || in[14] != 0x45 || get32(in + 30) != card->address)
        return;
    if (in[23] == 17)
        udp(card, in);
    if (in[23] == 6)
        tcp(card, in);
}

static void poll(struct card *card)
{
    while (!(in8(card->port + 0x37) & 1)) {
        const u8 *head = card->ring + card->at;
        u32 size = *(const u16 *)(head + 2);
        answer(card, head + 4);
        card->at = ((card->at + size + 4 + 3) & ~3u) % RING;
        out16(card->port + 0x38, card->at - 16);
    }
}

void serve(void)
{
    u32 count = 0;
    while (count < 2 && found(&cards[count], count))
        count++;
    for (;;) {
        for (u32 i = 0; i < count; i++)
            poll(&cards[i]);
        for (u32 i = 0; i < 200; i++) /* whoever else wants QEMU's lock */
            __asm__ volatile("pause");
    }
}
