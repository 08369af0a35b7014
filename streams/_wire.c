/* Takes remote-write requests apart: where their label sets lie, and their samples as columns.
 *
 * It is optional: wire_plain.py does the same where it was not built. Every length that a request
 * tells is checked against what is there before it is followed, and every column grows by itself.
 * A label set is looked up by its bytes, so a known one costs a hash and a comparison.
 */
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* What is wrong with a request; wire.py has the words. */
enum {
    FINE, TRUNCATED, BAD_NUMBER, BAD_TYPE, OTHER_MESSAGE, NO_EMPTY_SYMBOL, TOO_MANY_SERIES,
    TOO_MANY_SAMPLES, TOO_MANY_LABELS, NO_MEMORY
};
/* What stands in place of a series' slot. */
enum { UNKNOWN = -1, SCATTERED = -2, NO_SYMBOL = -3, HALF_A_LABEL = -4, TOO_LARGE = -5 };
/* The wire types of protobuf. */
enum { VARINT, FIXED64, BYTES, FIXED32 = 5 };
/* The fields of a series of version 1.0. */
enum { LABELS = 1, SAMPLE, EXEMPLAR, HISTOGRAM, METADATA };

#define EMPTY 0
#define LOOSE 2
#define MIX UINT64_C(0x9E3779B97F4A7C15)

typedef struct {
    void *data;
    size_t used, room;
} Column;

typedef struct {
    PyObject_HEAD
    /* The label sets that are known: a hash table with open addressing, and their bytes. */
    uint64_t seed, *hash;
    int64_t *slot;
    size_t places;
    Column begin, text;
    /* The request under way. */
    Column slots, spans, samples, exemplars, kinds, times, values, others, symbols, entries, drawn;
    size_t drawn_in_all;
    /* Its limits. */
    size_t series_max, samples_max, label_bytes_max, drawn_bytes_max;
} Reader;

typedef struct {
    const uint8_t *at, *end;
} Span;

/* Makes room for so many bytes more; 0 if there is none. */
static int widen(Column *column, size_t more)
{
    size_t room = column->room ? column->room : 1024;
    void *data;
    if (column->used + more <= column->room)
        return 1;
    while (room < column->used + more)
        room *= 2;
    data = realloc(column->data, room);
    if (!data)
        return 0;
    column->data = data;
    column->room = room;
    return 1;
}

static int push(Column *column, int64_t value)
{
    if (!widen(column, sizeof value))
        return 0;
    memcpy((char *)column->data + column->used, &value, sizeof value);
    column->used += sizeof value;
    return 1;
}

static size_t count(const Column *column)
{
    return column->used / sizeof(int64_t);
}

static int64_t *last(const Column *column)
{
    return (int64_t *)column->data + count(column) - 1;
}

static uint64_t word(const uint8_t *at)
{
    uint64_t value;
    memcpy(&value, at, sizeof value);
#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
    value = __builtin_bswap64(value);
#endif
    return value;
}

/* ---- protobuf ---- */

static int long_number(Span *span, uint64_t *value)
{
    int i;
    *value = 0;
    for (i = 0; i < 10; i++) {
        uint8_t byte;
        if (span->at >= span->end)
            return TRUNCATED;
        byte = *span->at++;
        if (i == 9 && byte > 1)
            return BAD_NUMBER;
        *value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte < 0x80)
            return FINE;
    }
    return BAD_NUMBER;
}

static inline int number(Span *span, uint64_t *value)
{
    if (span->at < span->end && *span->at < 0x80) {
        *value = *span->at++;
        return FINE;
    }
    return long_number(span, value);
}

/* Reads the tag of a field; of BYTES the inside too, and goes behind it. */
static inline int field(Span *span, uint32_t *name, int *wire, Span *inside)
{
    uint64_t tag, size;
    int wrong = number(span, &tag);
    if (wrong)
        return wrong;
    if (tag < 8 || tag > UINT32_MAX)
        return BAD_NUMBER;
    *name = (uint32_t)(tag >> 3);
    *wire = tag & 7;
    if (*wire != BYTES)
        return FINE;
    wrong = number(span, &size);
    if (wrong)
        return wrong;
    if (size > (uint64_t)(span->end - span->at))
        return TRUNCATED;
    inside->at = span->at;
    inside->end = span->at += size;
    return FINE;
}

/* Passes over what follows a tag. */
static int skip(Span *span, int wire)
{
    uint64_t ignored;
    size_t size = wire == FIXED64 ? 8 : 4;
    switch (wire) {
    case BYTES:
        return FINE;
    case VARINT:
        return number(span, &ignored);
    case FIXED64:
    case FIXED32:
        if ((size_t)(span->end - span->at) < size)
            return TRUNCATED;
        span->at += size;
        return FINE;
    default:
        return BAD_TYPE;
    }
}

/* ---- known label sets ---- */

static uint64_t hashed(uint64_t seed, const uint8_t *at, size_t size)
{
    uint64_t value = (seed ^ size) * MIX, rest = 0;
    for (; size >= 8; at += 8, size -= 8) {
        value = (value ^ word(at)) * MIX;
        value ^= value >> 32;
    }
    while (size--)
        rest = rest << 8 | *at++;
    value = (value ^ rest) * MIX;
    value ^= value >> 32;
    value *= MIX;
    value ^= value >> 32;
    return value == EMPTY ? 1 : value;
}

static const uint8_t *known(const Reader *self, int64_t slot, size_t *size)
{
    const int64_t *begin = (const int64_t *)self->begin.data + slot;
    *size = (size_t)(begin[1] - begin[0]);
    return (const uint8_t *)self->text.data + begin[0];
}

static int64_t find(const Reader *self, const uint8_t *text, size_t size)
{
    uint64_t value = hashed(self->seed, text, size);
    size_t place = value & (self->places - 1), own;
    for (; self->hash[place] != EMPTY; place = (place + 1) & (self->places - 1)) {
        const uint8_t *other;
        if (self->hash[place] != value)
            continue;
        other = known(self, self->slot[place], &own);
        if (own == size && !memcmp(other, text, size))
            return self->slot[place];
    }
    return UNKNOWN;
}

static void enter(Reader *self, int64_t slot)
{
    size_t size, place;
    const uint8_t *text = known(self, slot, &size);
    uint64_t value = hashed(self->seed, text, size);
    for (place = value & (self->places - 1); self->hash[place] != EMPTY;)
        place = (place + 1) & (self->places - 1);
    self->hash[place] = value;
    self->slot[place] = slot;
}

/* Makes a table of so many places, and enters all that is known. */
static int rebuild(Reader *self, size_t places)
{
    uint64_t *hash = calloc(places, sizeof *hash);
    int64_t *slot = malloc(places * sizeof *slot), i;
    if (!hash || !slot) {
        free(hash);
        free(slot);
        return 0;
    }
    free(self->hash);
    free(self->slot);
    self->hash = hash;
    self->slot = slot;
    self->places = places;
    for (i = 0; i < (int64_t)count(&self->begin) - 1; i++)
        enter(self, i);
    return 1;
}

/* ---- what both versions have ---- */

static int sample(Reader *self, Span span)
{
    int64_t time_ms = 0, value = 0;
    uint64_t told;
    if (count(&self->times) >= self->samples_max)
        return TOO_MANY_SAMPLES;
    while (span.at < span.end) {
        uint32_t name;
        int wire, wrong;
        Span inside;
        wrong = field(&span, &name, &wire, &inside);
        if (wrong)
            return wrong;
        if (name == 1 && wire == FIXED64) {
            if (span.end - span.at < 8)
                return TRUNCATED;
            value = (int64_t)word(span.at);
            span.at += 8;
        } else if (name == 2 && wire == VARINT) {
            if ((wrong = number(&span, &told)))
                return wrong;
            time_ms = (int64_t)told;
        } else if (name <= 2) {
            return BAD_TYPE;
        } else if ((wrong = skip(&span, wire))) {
            return wrong;
        }
    }
    return push(&self->times, time_ms) && push(&self->values, value) ? FINE : NO_MEMORY;
}

/* Notes what Python reads: the series, or -1 for metadata, and where it lies in the request. */
static int set_aside(Reader *self, int64_t series, Span span, const uint8_t *request)
{
    Column *others = &self->others;
    if (count(others) >= 3 * self->series_max)
        return TOO_MANY_SERIES;
    return push(others, series) && push(others, span.at - request) &&
                   push(others, span.end - request)
               ? FINE
               : NO_MEMORY;
}

static int part(Reader *self, int which, Span inside, const uint8_t *request)
{
    switch (which) {
    case SAMPLE:
        return sample(self, inside);
    case HISTOGRAM:
        return set_aside(self, (int64_t)count(&self->exemplars) - 1, inside, request);
    default:
        ++*last(&self->exemplars);
        return FINE;
    }
}

static int begin_series(Reader *self)
{
    if (count(&self->slots) >= self->series_max)
        return TOO_MANY_SERIES;
    return push(&self->exemplars, 0) && push(&self->kinds, 0) ? FINE : NO_MEMORY;
}

static int end_series(Reader *self, int64_t slot, int64_t begin, int64_t end, size_t samples)
{
    return push(&self->slots, slot) && push(&self->spans, begin) && push(&self->spans, end) &&
                   push(&self->samples, (int64_t)(count(&self->times) - samples))
               ? FINE
               : NO_MEMORY;
}

/* ---- version 1.0 ---- */

/* Ends a series whose labels lie apart: they are written down in one piece. */
static int end_scattered(Reader *self, Span span, size_t samples)
{
    size_t begin = self->drawn.used, size = 0;
    int64_t slot = UNKNOWN;
    while (slot == UNKNOWN && span.at < span.end) {
        const uint8_t *tag = span.at;
        uint32_t name;
        int wire, wrong;
        Span inside;
        if ((wrong = field(&span, &name, &wire, &inside)) || (wrong = skip(&span, wire)))
            return wrong;
        if (name != LABELS)
            continue;
        size += (size_t)(span.at - tag);
        if (size > self->label_bytes_max) {
            slot = TOO_LARGE;
        } else {
            if (!widen(&self->drawn, (size_t)(span.at - tag)))
                return NO_MEMORY;
            memcpy((char *)self->drawn.data + self->drawn.used, tag, (size_t)(span.at - tag));
            self->drawn.used += (size_t)(span.at - tag);
        }
    }
    if (slot == UNKNOWN)
        slot = find(self, (uint8_t *)self->drawn.data + begin, size);
    if (slot == UNKNOWN)
        slot = SCATTERED;
    else
        self->drawn.used = begin;
    return end_series(self, slot, (int64_t)begin, (int64_t)self->drawn.used, samples);
}

static int series_v1(Reader *self, Span span, const uint8_t *request)
{
    const uint8_t *whole = span.at, *first = span.at, *behind = span.at;
    size_t samples = count(&self->times);
    int scattered = 0, wrong = begin_series(self);
    int64_t slot;
    while (!wrong && span.at < span.end) {
        const uint8_t *tag = span.at;
        uint32_t name;
        int wire;
        Span inside;
        if ((wrong = field(&span, &name, &wire, &inside)))
            break;
        if (name > HISTOGRAM) {
            wrong = skip(&span, wire);
        } else if (wire != BYTES) {
            wrong = BAD_TYPE;
        } else if (name == LABELS) {
            if (behind == whole)
                first = behind = tag;
            scattered |= tag != behind;
            behind = span.at;
        } else {
            wrong = part(self, (int)name, inside, request);
        }
    }
    if (wrong)
        return wrong;
    if (scattered)
        return end_scattered(self, (Span){whole, span.end}, samples);
    slot = TOO_LARGE;
    if ((size_t)(behind - first) <= self->label_bytes_max)
        slot = find(self, first, (size_t)(behind - first));
    return end_series(self, slot, first - request, behind - request, samples);
}

static int read_v1(Reader *self, Span span)
{
    const uint8_t *request = span.at;
    int wrong = FINE;
    while (!wrong && span.at < span.end) {
        uint32_t name;
        int wire;
        Span inside;
        if ((wrong = field(&span, &name, &wire, &inside)))
            break;
        if (name == 4 || name == 5) /* Version 2.0 has these two. */
            wrong = OTHER_MESSAGE;
        else if (name != 1 && name != 3)
            wrong = skip(&span, wire);
        else if (wire != BYTES)
            wrong = BAD_TYPE;
        else if (name == 1)
            wrong = series_v1(self, inside, request);
        else
            wrong = set_aside(self, -1, inside, request);
    }
    return wrong;
}

/* ---- version 2.0: its label sets are written down as version 1.0 has them ---- */

typedef struct {
    size_t begin;
    int64_t name, verdict;
} Pen;

static size_t number_bytes(uint64_t value)
{
    size_t size = 1;
    for (; value >= 0x80; value >>= 7)
        size++;
    return size;
}

static uint8_t *put_number(uint8_t *at, uint64_t value)
{
    for (; value >= 0x80; value >>= 7)
        *at++ = (uint8_t)(value | 0x80);
    *at++ = (uint8_t)value;
    return at;
}

static uint8_t *put_text(uint8_t *at, uint8_t tag, const uint8_t *text, size_t size)
{
    *at++ = tag;
    at = put_number(at, size);
    memcpy(at, text, size);
    return at + size;
}

/* Writes the next symbol of a series down; two make a label. */
static int draw(Reader *self, Pen *pen, uint64_t symbol, const uint8_t *request)
{
    const int64_t *symbols = self->symbols.data, *name, *value;
    size_t name_size, value_size, inner, whole;
    uint8_t *at;
    if (pen->verdict != UNKNOWN)
        return FINE;
    if (symbol >= count(&self->symbols) / 2) {
        pen->verdict = NO_SYMBOL;
        return FINE;
    }
    if (pen->name < 0) {
        pen->name = (int64_t)symbol;
        return FINE;
    }
    name = symbols + 2 * pen->name;
    value = symbols + 2 * symbol;
    pen->name = -1;
    name_size = (size_t)(name[1] - name[0]);
    value_size = (size_t)(value[1] - value[0]);
    inner = 2 + number_bytes(name_size) + name_size + number_bytes(value_size) + value_size;
    whole = 1 + number_bytes(inner) + inner;
    if (self->drawn.used - pen->begin + whole > self->label_bytes_max) {
        pen->verdict = TOO_LARGE;
        return FINE;
    }
    if (!widen(&self->drawn, whole))
        return NO_MEMORY;
    at = (uint8_t *)self->drawn.data + self->drawn.used;
    *at++ = 0x0A;
    at = put_number(at, inner);
    at = put_text(at, 0x0A, request + name[0], name_size);
    put_text(at, 0x12, request + value[0], value_size);
    self->drawn.used += whole;
    return FINE;
}

/* Reads references to symbols, many or one. */
static int references(Reader *self, Pen *pen, Span *span, int wire, Span inside, const uint8_t *request)
{
    Span *from = wire == BYTES ? &inside : span;
    int wrong = FINE;
    uint64_t symbol;
    if (wire != BYTES && wire != VARINT)
        return BAD_TYPE;
    do {
        if (from->at >= from->end && wire == BYTES)
            break;
        if (!(wrong = number(from, &symbol)))
            wrong = draw(self, pen, symbol, request);
    } while (!wrong && wire == BYTES);
    return wrong;
}

/* Reads what metadata says of a series' type. */
static int kind(Reader *self, Span span)
{
    int wrong = FINE;
    while (!wrong && span.at < span.end) {
        uint32_t name;
        uint64_t value;
        int wire;
        Span inside;
        if ((wrong = field(&span, &name, &wire, &inside)))
            break;
        if (name != 1 || wire != VARINT)
            wrong = skip(&span, wire);
        else if (!(wrong = number(&span, &value)))
            *last(&self->kinds) = value < 256 ? (int64_t)value : 0;
    }
    return wrong;
}

static int series_v2(Reader *self, Span span, const uint8_t *request)
{
    Pen pen = {self->drawn.used, -1, UNKNOWN};
    size_t samples = count(&self->times), drawn;
    int wrong = begin_series(self);
    while (!wrong && span.at < span.end) {
        uint32_t name;
        int wire;
        Span inside = {NULL, NULL};
        if ((wrong = field(&span, &name, &wire, &inside)))
            break;
        if (name == LABELS)
            wrong = references(self, &pen, &span, wire, inside, request);
        else if (name > METADATA)
            wrong = skip(&span, wire);
        else if (wire != BYTES)
            wrong = BAD_TYPE;
        else if (name == METADATA)
            wrong = kind(self, inside);
        else if (name == SAMPLE)
            wrong = sample(self, inside);
        else /* Histograms and exemplars have each other's numbers. */
            wrong = part(self, HISTOGRAM + EXEMPLAR - (int)name, inside, request);
    }
    if (wrong)
        return wrong;
    drawn = self->drawn.used - pen.begin;
    self->drawn_in_all += drawn;
    if (self->drawn_in_all > self->drawn_bytes_max)
        return TOO_MANY_LABELS;
    if (pen.verdict == UNKNOWN && pen.name >= 0)
        pen.verdict = HALF_A_LABEL;
    if (pen.verdict == UNKNOWN)
        pen.verdict = find(self, drawn ? (uint8_t *)self->drawn.data + pen.begin : request, drawn);
    if (pen.verdict != UNKNOWN) /* Only what Python has to see is kept. */
        self->drawn.used = pen.begin;
    return end_series(self, pen.verdict, (int64_t)pen.begin, (int64_t)(pen.begin + drawn), samples);
}

/* Finds the symbols and the series. */
static int outline(Reader *self, Span span, const uint8_t *request)
{
    const int64_t *first;
    int wrong = FINE, empty = span.at == span.end;
    while (!wrong && span.at < span.end) {
        uint32_t name;
        int wire;
        Span inside;
        Column *column;
        if ((wrong = field(&span, &name, &wire, &inside)))
            break;
        if (name == 1 || name == 3) /* Version 1.0 has these two. */
            return OTHER_MESSAGE;
        if (name != 4 && name != 5) {
            wrong = skip(&span, wire);
            continue;
        }
        if (wire != BYTES)
            return BAD_TYPE;
        column = name == 4 ? &self->symbols : &self->entries;
        if (count(column) >= 2 * (name == 4 ? self->samples_max : self->series_max))
            return name == 4 ? TOO_MANY_LABELS : TOO_MANY_SERIES;
        if (!push(column, inside.at - request) || !push(column, inside.end - request))
            return NO_MEMORY;
    }
    if (wrong || empty)
        return wrong;
    first = self->symbols.data;
    return count(&self->symbols) && first[0] == first[1] ? FINE : NO_EMPTY_SYMBOL;
}

static int read_v2(Reader *self, Span span)
{
    const uint8_t *request = span.at;
    size_t i;
    int wrong = outline(self, span, request);
    for (i = 0; !wrong && i < count(&self->entries); i += 2) {
        const int64_t *entry = (const int64_t *)self->entries.data + i;
        Span inside = {request + entry[0], request + entry[1]};
        wrong = series_v2(self, inside, request);
    }
    return wrong;
}

/* ---- Python ---- */

static Column *const *of_request(Reader *self)
{
    static Column *columns[11];
    columns[0] = &self->slots;
    columns[1] = &self->samples;
    columns[2] = &self->exemplars;
    columns[3] = &self->kinds;
    columns[4] = &self->times;
    columns[5] = &self->values;
    columns[6] = &self->spans;
    columns[7] = &self->others;
    columns[8] = &self->drawn;
    columns[9] = &self->symbols;
    columns[10] = &self->entries;
    return columns;
}

static PyObject *reader_read(PyObject *object, PyObject *args)
{
    Reader *self = (Reader *)object;
    Column *const *columns = of_request(self);
    Py_buffer plain;
    PyObject *told;
    Span span;
    int version, wrong, i;
    if (!PyArg_ParseTuple(args, "y*i", &plain, &version))
        return NULL;
    for (i = 0; i < 11; i++)
        columns[i]->used = 0;
    self->drawn_in_all = 0;
    span.at = plain.buf;
    span.end = span.at + plain.len;
    wrong = version == 1 ? read_v1(self, span) : read_v2(self, span);
    PyBuffer_Release(&plain);
    if (wrong == NO_MEMORY)
        return PyErr_NoMemory();
    if (wrong)
        return PyLong_FromLong(wrong);
    told = PyTuple_New(9);
    for (i = 0; told && i < 9; i++) {
        const char *data = columns[i]->data ? columns[i]->data : "";
        PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)columns[i]->used);
        if (!bytes || PyTuple_SetItem(told, i, bytes)) {
            Py_CLEAR(told);
        }
    }
    return told;
}

static PyObject *reader_learn(PyObject *object, PyObject *args)
{
    Reader *self = (Reader *)object;
    const uint8_t *text;
    Py_ssize_t size;
    int64_t slot;
    if (!PyArg_ParseTuple(args, "y#", &text, &size))
        return NULL;
    slot = find(self, text, (size_t)size);
    if (slot != UNKNOWN)
        return PyLong_FromLongLong(slot);
    slot = (int64_t)count(&self->begin) - 1;
    if ((size_t)(slot + 1) * LOOSE > self->places && !rebuild(self, 2 * self->places))
        return PyErr_NoMemory();
    if (!widen(&self->text, (size_t)size) || !widen(&self->begin, sizeof slot))
        return PyErr_NoMemory();
    memcpy((char *)self->text.data + self->text.used, text, (size_t)size);
    self->text.used += (size_t)size;
    push(&self->begin, (int64_t)self->text.used);
    enter(self, slot);
    return PyLong_FromLongLong(slot);
}

static PyObject *reader_labels(PyObject *object, PyObject *args)
{
    Reader *self = (Reader *)object;
    const uint8_t *text;
    size_t size;
    long long slot;
    if (!PyArg_ParseTuple(args, "L", &slot))
        return NULL;
    if (slot < 0 || slot >= (long long)count(&self->begin) - 1) {
        PyErr_SetString(PyExc_IndexError, "no such slot");
        return NULL;
    }
    text = known(self, slot, &size);
    return PyBytes_FromStringAndSize((const char *)text, (Py_ssize_t)size);
}

static PyObject *reader_new(PyTypeObject *type, PyObject *args, PyObject *keywords)
{
    static char *names[] = {"seed", "series", "samples", "label_bytes", "drawn_bytes", NULL};
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Reader *self;
    unsigned long long seed;
    Py_ssize_t series, samples, label_bytes, drawn_bytes;
    if (!PyArg_ParseTupleAndKeywords(args, keywords, "Knnnn", names, &seed, &series, &samples,
                                     &label_bytes, &drawn_bytes))
        return NULL;
    self = (Reader *)alloc(type, 0);
    if (!self)
        return NULL;
    self->seed = seed;
    self->series_max = (size_t)series;
    self->samples_max = (size_t)samples;
    self->label_bytes_max = (size_t)label_bytes;
    self->drawn_bytes_max = (size_t)drawn_bytes;
    /* An empty column has no data, and known() needs where the first label set begins. */
    if (!push(&self->begin, 0) || !widen(&self->text, 1) || !rebuild(self, 1024)) {
        Py_DECREF((PyObject *)self);
        return PyErr_NoMemory();
    }
    return (PyObject *)self;
}

static void reader_free(PyObject *object)
{
    Reader *self = (Reader *)object;
    PyTypeObject *type = Py_TYPE(object);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);
    Column *const *columns = of_request(self);
    int i;
    for (i = 0; i < 11; i++)
        free(columns[i]->data);
    free(self->begin.data);
    free(self->text.data);
    free(self->hash);
    free(self->slot);
    release(object);
    Py_DECREF(type);
}

static PyMethodDef methods[] = {
    {"read", reader_read, METH_VARARGS, "Take a request apart: nine columns, or what is wrong."},
    {"learn", reader_learn, METH_VARARGS, "Give a label set the next slot, unless it has one."},
    {"labels", reader_labels, METH_VARARGS, "Give the label set of a slot."},
    {NULL, NULL, 0, NULL},
};

static PyType_Slot slots[] = {
    {Py_tp_new, reader_new},
    {Py_tp_dealloc, reader_free},
    {Py_tp_methods, methods},
    {Py_tp_doc, "Takes remote-write requests apart, and knows label sets by their bytes."},
    {0, NULL},
};

static PyType_Spec spec = {"watchkeep.streams._wire.Reader", sizeof(Reader), 0,
                           Py_TPFLAGS_DEFAULT, slots};

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_wire", NULL, -1, NULL, NULL, NULL,
                                    NULL, NULL};

PyMODINIT_FUNC PyInit__wire(void)
{
    PyObject *made = PyModule_Create(&module), *type = PyType_FromSpec(&spec);
    if (!made || !type || PyModule_AddObjectRef(made, "Reader", type)) {
        Py_XDECREF(made);
        Py_XDECREF(type);
        return NULL;
    }
    Py_DECREF(type);
    return made;
}
