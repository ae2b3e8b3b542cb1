// Hand-written printf formats and values for an event of signal.h.
#ifndef PRINT_H
#define PRINT_H

#include "signal.h"

#define UNSIGNED_JSON(name) ",\"" #name "\":%u"
#define SIGNED_JSON(name) ",\"" #name "\":%d"
#define NAME_JSON(name) ",\"" #name "\":\"%.16s\""
#define JSON_FORMAT "{\"pid\":%u" MEMBERS(UNSIGNED_JSON, SIGNED_JSON, SIGNED_JSON, NAME_JSON, NAME_JSON) "}"

// A table line after its time. The last column needs no width.
#define UNSIGNED_TEXT(name) " %-6u"
#define SIGNED_TEXT(name) " %-6d"
#define NAME_TEXT(name) " %-6.16s"
#define LAST_TEXT(name) " %.16s"
#if FIELDS == 1
#define TEXT_FORMAT " %u"
#else
#define TEXT_FORMAT " %-6u" MEMBERS(UNSIGNED_TEXT, SIGNED_TEXT, SIGNED_TEXT, NAME_TEXT, LAST_TEXT)
#endif

#define VALUE(name) , event->name
#define VALUES event->pid MEMBERS(VALUE, VALUE, VALUE, VALUE, VALUE)

#endif
