/* Image operations picture by picture: the same numbers, bit for bit, as the tensor operations beside this file.

   native.py compiles this on first use and calls the functions without `static`; `each` those of one picture. Every operation takes
   one picture, 3 x height x width bytes, and writes another; what its parameters mean is said in colour.py, geometry.py
   and nearest.py, and so is why the arithmetic is in this order: it is Pillow's. It must be compiled with
   -ffp-contract=off, since a fused multiplication and addition rounds once and not twice. */
#include <math.h>
#include <stdint.h>
#include <string.h>

typedef uint8_t byte;
typedef void Operation(const byte *in, const double *p, int height, int width, int fill, byte *out);

/* in[i], p + i * num_parameters -> out[i] for all pictures; the larger the count, the better threads pay. */
void each(Operation *operation, const byte *in, const double *p, int num_parameters, int64_t count, int height,
          int width, int fill, int threads, byte *out) {
    const int64_t size = 3 * (int64_t)height * width;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < count; i++)
        operation(in + i * size, p + i * num_parameters, height, width, fill, out + i * size);
}

static inline byte truncated(float value) { return (byte)(int)(value < 0 ? 0 : value > 255 ? 255 : value); }

/* ---- colour.py */

static void look_up(const byte *table, const byte *in, int count, byte *out) {
    for (int i = 0; i < count; i++) out[i] = table[in[i]];
}

void autocontrast(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const int area = height * width;
    for (int c = 0; c < 3; c++, in += area, out += area) {
        byte low = 255, high = 0, table[256];
        for (int i = 0; i < area; i++) {
            low = in[i] < low ? in[i] : low;
            high = in[i] > high ? in[i] : high;
        }
        const double scale = high > low ? 255.0 / (high - low) : 1.0, offset = high > low ? -low * scale : 0.0;
        for (int i = 0; i < 256; i++) {
            const double value = i * scale + offset;
            table[i] = (byte)(int)(value < 0 ? 0 : value > 255 ? 255 : value);
        }
        look_up(table, in, area, out);
    }
}

void equalize(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const int area = height * width;
    for (int c = 0; c < 3; c++, in += area, out += area) {
        int histogram[256] = {0}, brightest = 255, below = 0;
        byte table[256];
        for (int i = 0; i < area; i++) histogram[in[i]]++;
        while (!histogram[brightest]) brightest--;
        const int step = (area - histogram[brightest]) / 255;
        for (int i = 0; i < 256; below += histogram[i++]) {
            const int level = step ? (below + step / 2) / step : i;
            table[i] = (byte)(level > 255 ? 255 : level);
        }
        look_up(table, in, area, out);
    }
}

void posterize(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const byte mask = (byte)(0xff << (8 - (int)*p));
    for (int i = 0; i < 3 * height * width; i++) out[i] = in[i] & mask;
}

void solarize(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const double lowest = ceil(*p);
    const byte threshold = lowest < 0 ? 0 : lowest > 255 ? 255 : (byte)lowest, flipped = lowest > 255 ? 0 : 255;
    for (int i = 0; i < 3 * height * width; i++) out[i] = in[i] >= threshold ? in[i] ^ flipped : in[i];
}

static inline int grey(const byte *in, int area, int i) {
    return (19595 * in[i] + 38470 * in[i + area] + 7471 * in[i + 2 * area] + 32768) >> 16;
}

static inline byte blended(float from, byte pixel, float factor) { return truncated((pixel - from) * factor + from); }

void color(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const int area = height * width;
    const float factor = (float)*p;
    for (int i = 0; i < area; i++) {
        const float from = (float)grey(in, area, i);
        for (int c = 0; c < 3; c++) out[i + c * area] = blended(from, in[i + c * area], factor);
    }
}

void contrast(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const int area = height * width;
    const float factor = (float)*p;
    int64_t sum = 0;
    for (int i = 0; i < area; i++) sum += grey(in, area, i);
    const float from = (float)floor((double)sum / area + 0.5);
    for (int i = 0; i < 3 * area; i++) out[i] = blended(from, in[i], factor);
}

void brightness(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const float factor = (float)*p;
    for (int i = 0; i < 3 * height * width; i++) out[i] = truncated(in[i] * factor);
}

void sharpness(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const float factor = (float)*p, thirteenth = (float)(1.0 / 13.0);
    memcpy(out, in, 3 * (size_t)height * width);
    for (int c = 0; c < 3; c++)
        for (int y = 1; y < height - 1; y++) {
            const byte *row = in + (c * height + y) * width, *above = row - width, *under = row + width;
            for (int x = 1; x < width - 1; x++) {
                const int sum = above[x - 1] + above[x] + above[x + 1] + row[x - 1] + 5 * row[x] + row[x + 1] +
                                under[x - 1] + under[x] + under[x + 1];
                out[(c * height + y) * width + x] = blended(floorf((sum + 6.5f) * thirteenth), row[x], factor);
            }
        }
}

/* ---- geometry.py and nearest.py */

static inline double between(double first, double second, double weight) { return (second - first) * weight + first; }

/* The pixel before a position on an axis, the next one (the same at the end) and the weight of that. */
typedef struct { int before, next; double weight; } Place;

static inline Place place(double position, int size) {
    double shifted = position - 0.5;
    shifted = shifted < 0 ? 0 : shifted > size - 1 ? size - 1 : shifted;
    const int before = (int)shifted;
    return (Place){before, before + 1 < size ? before + 1 : before, shifted - before};
}

/* p: cosine and sine. */
void rotate(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const int area = height * width;
    const double cosine = p[0], sine = p[1];
    const double x_shift = cosine * (-width / 2.0) + sine * (-height / 2.0) + width / 2.0;
    const double y_shift = -sine * (-width / 2.0) + cosine * (-height / 2.0) + height / 2.0;
    for (int i = 0; i < area; i++) {
        const double column = i % width + 0.5, row = i / width + 0.5;
        const double x = (cosine * column + sine * row) + x_shift, y = (-sine * column + cosine * row) + y_shift;
        if (!(x >= 0 && x < width && y >= 0 && y < height)) {
            for (int c = 0; c < 3; c++) out[i + c * area] = (byte)fill;
            continue;
        }
        const Place at = place(x, width), line = place(y, height);
        for (int c = 0; c < 3; c++) {
            const byte *upper = in + c * area + line.before * width, *lower = in + c * area + line.next * width;
            const double top = between(upper[at.before], upper[at.next], at.weight);
            const double bottom = between(lower[at.before], lower[at.next], at.weight);
            out[i + c * area] = (byte)(int)between(top, bottom, line.weight);
        }
    }
}

/* Resampled along one axis, at positions moved by slope * (centre on the other axis) + shift. */
static void resample(const byte *in, int along_x, double slope, double shift, int height, int width, int fill,
                     byte *out) {
    const int area = height * width, size = along_x ? width : height, stride = along_x ? 1 : width;
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++) {
            const double centre = (along_x ? x : y) + 0.5, other = (along_x ? y : x) + 0.5;
            const double position = centre + (slope * other + shift);
            const int i = y * width + x, start = along_x ? y * width : x;
            if (!(position >= 0 && position < size)) {
                for (int c = 0; c < 3; c++) out[i + c * area] = (byte)fill;
                continue;
            }
            const Place at = place(position, size);
            const byte *before = in + start + at.before * stride, *next = in + start + at.next * stride;
            for (int c = 0; c < 3; c++)
                out[i + c * area] = (byte)(int)between(before[c * area], next[c * area], at.weight);
        }
}

void shear_x(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    resample(in, 1, *p, 0, height, width, fill, out);
}

void shear_y(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    resample(in, 0, *p, 0, height, width, fill, out);
}

/* A window of height x width at (y, x) of a picture in a frame of `fill`. */
static void window(const byte *in, double y, double x, int height, int width, int fill, byte *out) {
    const int from = x < -width ? -width : x > width ? width : (int)x, first = from < 0 ? -from : 0;
    const int kept = width - (from < 0 ? -from : from);
    for (int line = 0; line < 3 * height; line++, out += width) {
        const double source = line % height + y;
        memset(out, fill, width);
        if (source >= 0 && source < height)
            memcpy(out + first, in + ((int64_t)(line / height) * height + (int)source) * width + from + first, kept);
    }
}

void translate_x(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    if (*p != floor(*p)) resample(in, 1, 0, *p, height, width, fill, out);
    else window(in, 0, *p, height, width, fill, out);
}

void translate_y(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    if (*p != floor(*p)) resample(in, 0, 0, *p, height, width, fill, out);
    else window(in, *p, 0, height, width, fill, out);
}

/* p: start, step to the right and step down, of x and of y, with 16 bits behind the point. */
void nearest(const byte *in, const double *p, int height, int width, int fill, byte *out) {
    const int area = height * width;
    for (int row = 0; row < height; row++) {
        int32_t x = (int32_t)p[0] + row * (int32_t)p[2], y = (int32_t)p[3] + row * (int32_t)p[5];
        for (int column = 0; column < width; column++, x += (int32_t)p[1], y += (int32_t)p[4]) {
            const int i = row * width + column, is_inside = x >= 0 && x >> 16 < width && y >= 0 && y >> 16 < height;
            const byte *source = in + (is_inside ? (y >> 16) * width + (x >> 16) : 0);
            for (int c = 0; c < 3; c++) out[i + c * area] = is_inside ? source[c * area] : (byte)fill;
        }
    }
}

/* ---- cropping.py */

/* Windows at top and left of pictures in a black frame, of which some are flipped first. */
void crop(const byte *in, const int64_t *top, const int64_t *left, const byte *is_flipped, int padding, int64_t count,
          int height, int width, int threads, byte *out) {
    const int64_t size = 3 * (int64_t)height * width;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < count; i++) {
        const int x = (int)left[i] - padding;
        byte *made = out + i * size;
        window(in + i * size, (double)(top[i] - padding), is_flipped[i] ? -x : x, height, width, 0, made);
        if (is_flipped[i])
            for (byte *line = made; line < made + size; line += width)
                for (int a = 0, b = width - 1; a < b; a++, b--) {
                    const byte kept = line[a];
                    line[a] = line[b];
                    line[b] = kept;
                }
    }
}

/* ---- unit.py and blending.py: float32 values in [0, 1] */

void to_unit(const byte *in, int64_t count, int threads, float *out) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t i = 0; i < count; i++) out[i] = in[i] / 255.0f;
}

/* Rows boxes[0] <= y < boxes[1] and columns boxes[2] <= x < boxes[3] of each picture set to a value. */
void paint(float *images, const int64_t *boxes, float value, int64_t count, int height, int width) {
    for (int64_t n = 0; n < count; n++)
        for (int c = 0; c < 3; c++)
            for (int64_t y = boxes[n]; y < boxes[n + count]; y++) {
                float *row = images + ((n * 3 + c) * height + y) * width;
                for (int64_t x = boxes[n + 2 * count]; x < boxes[n + 3 * count]; x++) row[x] = value;
            }
}

/* Row rows[n] of mixed becomes a times itself + b times row partners[n] of sources + shift, cut to [0, 1]; a row has
   `size` values, and its own a, b and shift. */
void add(float *mixed, const int64_t *rows, const byte *sources, const int64_t *partners, const float *a,
         const float *b, const float *shift, int64_t count, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t n = 0; n < count; n++) {
        float *row = mixed + rows[n] * size;
        const byte *partner = sources + partners[n] * size;
        for (int64_t i = 0; i < size; i++) {
            const float value = (row[i] * a[n] + partner[i] * b[n]) + shift[n];
            row[i] = value < 0 ? 0 : value > 1 ? 1 : value;
        }
    }
}

/* values * a + what a table of 256 values for each row has for row partners[n] of sources. */
void look_up_and_add(float *values, const byte *sources, const int64_t *partners, const float *a, const float *table,
                     int64_t count, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t n = 0; n < count; n++) {
        float *row = values + n * size;
        const byte *partner = sources + partners[n] * size;
        for (int64_t i = 0; i < size; i++) row[i] = row[i] * a[n] + table[256 * n + partner[i]];
    }
}

/* Row n of values, cut to 1 and below, to row rows[n] of mixed. */
void put(float *mixed, const int64_t *rows, const float *values, int64_t count, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t n = 0; n < count; n++)
        for (int64_t i = 0; i < size; i++)
            mixed[rows[n] * size + i] = values[n * size + i] > 1 ? 1 : values[n * size + i];
}
