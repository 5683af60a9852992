/* What a fan-out costs at least: one thread, one epoll, one send() for each viewer and message.
 *
 * No log, no resume, no authentication, and a viewer that does not read misses messages: it is no server, it is the
 * price of the system calls. A GET of anything is answered by a stream of events, a POST of anything goes to all streams.
 *
 *     cc -O2 -o floor floor.c && ./floor PORT
 */
#define _GNU_SOURCE
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define BATCH 256
#define FILES (1 << 17)

static const char HEAD[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n";
static const char TAKEN[] = "HTTP/1.1 202 Accepted\r\nContent-Length: 0\r\n\r\n";

static int viewers[FILES]; /* descriptors, without holes */
static int places[FILES];  /* a descriptor's place among them, counted from 1; 0: it is none */
static int watching;

static void add(int file) {
    viewers[watching++] = file;
    places[file] = watching;
}

static void drop(int file) {
    int place = places[file];
    if (place) {
        int last = viewers[--watching];
        viewers[place - 1] = last;
        places[last] = place;
        places[file] = 0;
    }
    close(file);
}

static void publish(const char *message, int size) {
    static char event[1 << 16], chunk[(1 << 16) + 32];
    int length = snprintf(event, sizeof event, "id: 1\nevent: x.bench\ndata: %.*s\n\n", size, message);
    length = snprintf(chunk, sizeof chunk, "%x\r\n%.*s\r\n", length, length, event);
    for (int i = 0; i < watching; i++)
        send(viewers[i], chunk, length, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static void heard(int file) {
    static char request[1 << 16];
    int size = recv(file, request, sizeof request - 1, 0);
    if (size <= 0) {
        drop(file);
        return;
    }
    request[size] = 0;
    if (strncmp(request, "POST ", 5) == 0) {
        const char *body = strstr(request, "\r\n\r\n");
        if (body)
            publish(body + 4, size - (int)(body + 4 - request));
        send(file, TAKEN, sizeof TAKEN - 1, MSG_NOSIGNAL);
    } else if (!places[file]) {
        send(file, HEAD, sizeof HEAD - 1, MSG_NOSIGNAL);
        add(file);
    }
}

int main(int count, char **words) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), poll = epoll_create1(0), yes = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    struct epoll_event event = {.events = EPOLLIN, .data.fd = listener}, ready[BATCH];

    address.sin_port = htons(count > 1 ? atoi(words[1]) : 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) || listen(listener, 4096)) {
        perror("floor");
        return 1;
    }
    epoll_ctl(poll, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int many = epoll_wait(poll, ready, BATCH, -1);
        for (int i = 0; i < many; i++) {
            if (ready[i].data.fd != listener) {
                heard(ready[i].data.fd);
                continue;
            }
            int file = accept(listener, NULL, NULL);
            if (file < 0)
                continue;
            setsockopt(file, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
            event.data.fd = file;
            epoll_ctl(poll, EPOLL_CTL_ADD, file, &event);
        }
    }
}
