// What the guests of the figures and their competitor in native C do with each event.
#ifndef GUEST_H
#define GUEST_H

#include "signal.h"

// Whether the event is to go on. All of them are: what is measured is the way there and back.
static inline int wanted(const struct signal *event, unsigned int size) {
    return size >= sizeof(*event) && event->sig > 0 && event->comm[0] != '\0';
}

#endif
