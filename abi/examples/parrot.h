/* What the echo client and server say to each other: the protocol of the label "parrot". */
#ifndef PARROT_H
#define PARROT_H

#include <stdint.h>

#define PARROT_LABEL "parrot"
#define PARROT_VERSION 1
#define PARROT_SAY 1

typedef struct {
  uint64_t number;
  char text[56];
} parrot_message; /* request and reply of PARROT_SAY */

#endif
