/* Image operations picture by picture: the same numbers, bit for bit, as the tensor operations beside this file.

   native.py compiles this on first use and calls the functions without `static`; `each` and `mix` those of one picture.
   Every operation takes one picture, 3 x height x width bytes, and writes another; what its parameters mean is said in
   colour.py, geometry.py and nearest.py, and so is why the arithmetic is in this order: it is Pillow's. It must be
   compiled with -ffp-contract=off, since a fused multiplication and addition rounds once and not twice. */
#include <math.h>
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#else
#define omp_get_thread_num() 0
#endif

typedef uint8_t byte;
enum { RUN = 256, SHORT_RUN = 32 }; /* pixels worked on together: as vectors, in the first-level cache */
typedef void Operation(const byte *restrict in, const double *p, int height, int width, int fill,
                       byte *restrict out);

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

static void look_up(const byte *restrict table, const byte *restrict in, int count, byte *restrict out) {
    for (int i = 0; i < count; i++) out[i] = table[in[i]];
}

void autocontrast(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
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

void equalize(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    const int area = height * width;
    for (int c = 0; c < 3; c++, in += area, out += area) {
        int histogram[256] = {0}, other[256] = {0}, below[256], sum = 0; /* two: equal neighbours wait for each other */
        byte table[256], brightest = in[area - 1];
        for (int i = 0; i + 1 < area; i += 2) {
            histogram[in[i]]++;
            other[in[i + 1]]++;
        }
        if (area & 1) histogram[brightest]++;
        for (int i = 0; i < area; i++) brightest = in[i] > brightest ? in[i] : brightest;
        for (int i = 0; i < 256; sum += histogram[i] + other[i], i++) below[i] = sum;
        const int step = below[brightest] / 255;
        /* in float64 a quotient of such whole numbers never rounds up to the next one, and division is faster */
        for (int i = 0; i < 256; i++) {
            const double level = step ? (double)(below[i] + step / 2) / step : i;
            table[i] = (byte)(int)(level > 255 ? 255 : level);
        }
        look_up(table, in, area, out);
    }
}

void posterize(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    const byte mask = (byte)(0xff << (8 - (int)*p));
    for (int i = 0; i < 3 * height * width; i++) out[i] = in[i] & mask;
}

void solarize(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    const double lowest = ceil(*p);
    const byte threshold = lowest < 0 ? 0 : lowest > 255 ? 255 : (byte)lowest, flipped = lowest > 255 ? 0 : 255;
    for (int i = 0; i < 3 * height * width; i++) out[i] = in[i] >= threshold ? in[i] ^ flipped : in[i];
}

/* The luminance of up to RUN pixels, whose channels are `area` apart. */
static void grey(const byte *restrict in, int area, int count, int *restrict out) {
    const byte *red = in, *green = red + area, *blue = green + area;
    for (int i = 0; i < count; i++) out[i] = (19595 * red[i] + 38470 * green[i] + 7471 * blue[i] + 32768) >> 16;
}

static inline byte blended(float from, byte pixel, float factor) { return truncated((pixel - from) * factor + from); }

void color(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    const int area = height * width;
    const float factor = (float)*p;
    int greys[RUN];
    for (int start = 0; start < area; start += RUN) {
        const int count = area - start < RUN ? area - start : RUN;
        grey(in + start, area, count, greys);
        for (int c = 0; c < 3; c++) {
            const byte *pixel = in + c * area + start;
            byte *made = out + c * area + start;
            for (int i = 0; i < count; i++) made[i] = blended((float)greys[i], pixel[i], factor);
        }
    }
}

void contrast(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    const int area = height * width;
    const float factor = (float)*p;
    int64_t sum = 0;
    int greys[RUN];
    for (int start = 0; start < area; start += RUN) {
        const int count = area - start < RUN ? area - start : RUN;
        int here = 0;
        grey(in + start, area, count, greys);
        for (int i = 0; i < count; i++) here += greys[i];
        sum += here;
    }
    const float from = (float)floor((double)sum / area + 0.5);
    for (int i = 0; i < 3 * area; i++) out[i] = blended(from, in[i], factor);
}

void brightness(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    const float factor = (float)*p;
    for (int i = 0; i < 3 * height * width; i++) out[i] = truncated(in[i] * factor);
}

void sharpness(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    const int area = height * width;
    const float factor = (float)*p, thirteenth = (float)(1.0 / 13.0);
    memcpy(out, in, 3 * (size_t)area);
    if (height < 3 || width < 3) return;
    for (int c = 0; c < 3; c++, in += area, out += area) {
        /* all rows as one, longer than a vector; what that puts into the outermost columns is put back */
        for (int start = width + 1, end = area - width - 1; start < end; start += RUN) {
            const int count = end - start < RUN ? end - start : RUN;
            const byte *row = in + start, *above = row - width, *under = row + width;
            uint16_t sums[RUN];
            for (int i = 0; i < count; i++) {
                const uint16_t sides = (uint16_t)(above[i - 1] + above[i + 1] + under[i - 1] + under[i + 1]);
                const uint16_t cross = (uint16_t)(above[i] + row[i - 1] + row[i + 1] + under[i]);
                sums[i] = (uint16_t)(sides + cross + 5 * row[i]);
            }
            byte *made = out + start;
            for (int i = 0; i < count; i++) {
                const int sum = sums[i];
                made[i] = blended(floorf((sum + 6.5f) * thirteenth), row[i], factor);
            }
        }
        for (int i = width; i < area; i += width) {
            out[i - 1] = in[i - 1];
            out[i] = in[i];
        }
    }
}

/* ---- geometry.py and nearest.py */

static inline double between(double first, double second, double weight) { return (second - first) * weight + first; }

/* The pixel before a position on an axis, at most `last`, and the weight of the next one. */
static inline int before(double position, int size, int last, double *weight) {
    double shifted = position - 0.5;
    shifted = shifted < 0 ? 0 : shifted > size - 1 ? size - 1 : shifted;
    int place = (int)shifted;
    place = place > last ? last : place;
    *weight = shifted - place;
    return place;
}

static inline uint16_t both(const byte *first, int step) { return (uint16_t)(first[0] | first[step] << 8); }

static inline double between_both(int pair, double weight) { return between(pair & 255, pair >> 8, weight); }

/* A run of one channel, with `fill` for what comes from outside the picture. */
static inline void put_run(const int *restrict values, const int *restrict is_inside, int fill, int count,
                           byte *restrict out) {
    byte made[SHORT_RUN];
    for (int i = 0; i < SHORT_RUN; i++) made[i] = (byte)(is_inside[i] ? values[i] : fill);
    memcpy(out, made, count);
}

/* p: cosine and sine. */
void rotate(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    const int area = height * width;
    const double cosine = p[0], sine = p[1];
    const double x_shift = cosine * (-width / 2.0) + sine * (-height / 2.0) + width / 2.0;
    const double y_shift = -sine * (-width / 2.0) + cosine * (-height / 2.0) + height / 2.0;
    for (int line = 0; line < height; line++)
        for (int start = 0; start < width; start += SHORT_RUN) {
            int index[SHORT_RUN], down[SHORT_RUN], is_inside[SHORT_RUN], values[SHORT_RUN];
            double x_weight[SHORT_RUN], y_weight[SHORT_RUN];
            uint16_t upper[3][SHORT_RUN], lower[3][SHORT_RUN];
            for (int i = 0; i < SHORT_RUN; i++) {
                const double column = start + i + 0.5, row = line + 0.5;
                const double x = (cosine * column + sine * row) + x_shift;
                const double y = (-sine * column + cosine * row) + y_shift;
                is_inside[i] = x >= 0 && x < width && y >= 0 && y < height;
                /* a weight of 1 would do for whole numbers, such as pixels, not for what lies between pixels */
                const int above = before(y, height, height - 1, y_weight + i);
                index[i] = above * width + before(x, width, width - 2, x_weight + i);
                down[i] = above < height - 1 ? width : 0;
            }
            for (int i = 0; i < SHORT_RUN; i++) /* not in vectors: a value at a time is faster */
                for (int c = 0; c < 3; c++) {
                    const byte *first = in + c * area + index[i];
                    upper[c][i] = both(first, 1);
                    lower[c][i] = both(first + down[i], 1);
                }
            for (int c = 0; c < 3; c++) {
                for (int i = 0; i < SHORT_RUN; i++) {
                    const double top = between_both(upper[c][i], x_weight[i]);
                    values[i] = (int)between(top, between_both(lower[c][i], x_weight[i]), y_weight[i]);
                }
                put_run(values, is_inside, fill, width - start < SHORT_RUN ? width - start : SHORT_RUN,
                        out + c * area + line * width + start);
            }
        }
}

/* Resampled along one axis, at positions moved by slope * (centre on the other axis) + shift. */
static inline void resample(const byte *restrict in, int along_x, double slope, double shift, int height, int width,
                            int fill, byte *restrict out) {
    const int area = height * width, size = along_x ? width : height, step = along_x ? 1 : width;
    for (int line = 0; line < height; line++)
        for (int start = 0; start < width; start += SHORT_RUN) {
            int index[SHORT_RUN], is_inside[SHORT_RUN], values[SHORT_RUN];
            double weight[SHORT_RUN];
            uint16_t pair[3][SHORT_RUN];
            for (int i = 0; i < SHORT_RUN; i++) {
                const int x = start + i < width ? start + i : width - 1;
                const double centre = (along_x ? x : line) + 0.5, other = (along_x ? line : x) + 0.5;
                const double position = centre + (slope * other + shift);
                const int place = before(position, size, size - 2, weight + i);
                is_inside[i] = position >= 0 && position < size;
                index[i] = along_x ? line * width + place : place * width + x;
            }
            for (int i = 0; i < SHORT_RUN; i++)
                for (int c = 0; c < 3; c++) pair[c][i] = both(in + c * area + index[i], step);
            for (int c = 0; c < 3; c++) {
                for (int i = 0; i < SHORT_RUN; i++) values[i] = (int)between_both(pair[c][i], weight[i]);
                put_run(values, is_inside, fill, width - start < SHORT_RUN ? width - start : SHORT_RUN,
                        out + c * area + line * width + start);
            }
        }
}

void shear_x(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    resample(in, 1, *p, 0, height, width, fill, out);
}

void shear_y(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
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

void translate_x(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    if (*p != floor(*p)) resample(in, 1, 0, *p, height, width, fill, out);
    else window(in, 0, *p, height, width, fill, out);
}

void translate_y(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
    if (*p != floor(*p)) resample(in, 0, 0, *p, height, width, fill, out);
    else window(in, *p, 0, height, width, fill, out);
}

/* p: start, step to the right and step down, of x and of y, with 16 bits behind the point. */
void nearest(const byte *restrict in, const double *p, int height, int width, int fill, byte *restrict out) {
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

/* Sums and products go block by block: a block of float32 stays in the first-level cache through all rounds. */
enum { BLOCK = 1024, LANES = 8 };
typedef float Lanes __attribute__((vector_size(4 * LANES)));
typedef void Logarithms(int64_t count, const float *in, float *out, int64_t mode);
typedef Lanes Powers(Lanes);

static Logarithms *logarithms;
static Powers *powers;
static const int64_t MODE = 0x00140102; /* of VML, as torch has it: high accuracy, denormals kept, errors not told */
static float logs_of_starts[256], logs_of_partners[256];

/* Take torch's own functions for the base 2; 0 where this processor cannot call them. */
int use(Logarithms *log2_of_values, Powers *exp2_of_lanes) {
#ifdef __AVX2__
    float units[256], doubled[256];
    for (int i = 0; i < 256; i++) {
        units[i] = i / 255.0f;
        doubled[i] = i ? i * (float)(2.0 / 255.0) : 1e-37f;
    }
    logarithms = log2_of_values;
    powers = exp2_of_lanes;
    logarithms(256, units, logs_of_starts, MODE);
    logarithms(256, doubled, logs_of_partners, MODE);
    return 1;
#else
    return 0;
#endif
}

static void add_block(float *restrict values, const byte *restrict partner, float a, float b, int count) {
    const float scaled = b / 255.0f, shift = (1.0f - a - b) / 2.0f;
    for (int i = 0; i < count; i++) {
        const float value = (values[i] * a + partner[i] * scaled) + shift;
        values[i] = value < 0 ? 0 : value > 1 ? 1 : value;
    }
}

/* In place; VML takes twenty times as long for a zero, and black pixels are many. */
static void take_logarithms(float *restrict values, int count) {
    float logs[BLOCK];
    for (int i = 0; i < count; i++) logs[i] = values[i] > 0 ? values[i] : 1;
    logarithms(count, logs, logs, MODE);
    for (int i = 0; i < count; i++) values[i] = values[i] > 0 ? logs[i] : -INFINITY;
}

/* From logarithms of `mixed`, in a block of BLOCK values, to the product. */
static void multiply_block(float *restrict logs, const byte *restrict partner, float a, float b, int count) {
    float table[256]; /* what a partner's value contributes */
    for (int i = 0; i < 256; i++) table[i] = fmaf(b, logs_of_partners[i], a - 1.0f); /* rounded once, as by addcmul */
    for (int i = 0; i < count; i++) logs[i] = logs[i] * a + table[partner[i]];
    for (int i = 0; i < count; i += LANES) {
        Lanes some;
        memcpy(&some, logs + i, sizeof some);
        some = powers(some);
        memcpy(logs + i, &some, sizeof some);
    }
    for (int i = 0; i < count; i++) logs[i] = logs[i] > 1 ? 1 : logs[i];
}

/* Row n of mixed, of `size` values, becomes its sum with row partners[n] of sources. */
void add(float *mixed, const byte *sources, const int64_t *partners, const float *a,
         const float *b, int64_t count, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t n = 0; n < count; n++)
        add_block(mixed + n * size, sources + partners[n] * size, a[n], b[n], (int)size);
}

/* The same with products. */
void multiply(float *mixed, const byte *sources, const int64_t *partners, const float *a,
              const float *b, int64_t count, int64_t size, int threads) {
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t n = 0; n < count; n++)
        for (int64_t start = 0; start < size; start += BLOCK) {
            const int here = size - start < BLOCK ? (int)(size - start) : BLOCK;
            float values[BLOCK] = {0}, *row = mixed + n * size + start;
            memcpy(values, row, here * sizeof *row);
            take_logarithms(values, here);
            multiply_block(values, sources + partners[n] * size + start, a[n], b[n], here);
            memcpy(row, values, here * sizeof *row);
        }
}

/* ---- pixmix.py: all that `Draws` say of each picture; copies has (1 + k) pictures for each thread, p two numbers for
   each slot. A picture's copies are made first, then each of its blocks goes through all rounds. */
void mix(const byte *images, const byte *pictures, Operation *const *operations, const int64_t *rounds,
         const byte *is_copy, const int64_t *operation, const double *p, const byte *is_product, const float *a,
         const float *b, int k, int64_t count, int height, int width, int threads, byte *copies, float *out) {
    const int64_t size = 3 * (int64_t)height * width, slots = 1 + k;
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(dynamic, 4)
    for (int64_t n = 0; n < count; n++) {
        byte *copy = copies + omp_get_thread_num() * slots * size;
        const byte *image = images + n * size, *picture = pictures + n * size;
        for (int64_t j = 0, slot = n * slots; j <= rounds[n]; j++, slot++)
            if (is_copy[slot]) operations[operation[slot]](image, p + 2 * slot, height, width, 0, copy + j * size);
        for (int64_t start = 0; start < size; start += BLOCK) {
            const int here = size - start < BLOCK ? (int)(size - start) : BLOCK;
            const byte *from = (is_copy[n * slots] ? copy : image) + start;
            const int is_log = rounds[n] && is_product[n * k]; /* bytes have logarithms that are known */
            float values[BLOCK] = {0};
            if (is_log)
                for (int i = 0; i < here; i++) values[i] = logs_of_starts[from[i]];
            else
                for (int i = 0; i < here; i++) values[i] = from[i] / 255.0f;
            for (int64_t j = 0, round = n * k; j < rounds[n]; j++, round++) {
                const byte *partner = (is_copy[n * slots + j + 1] ? copy + (j + 1) * size : picture) + start;
                if (!is_product[round]) {
                    add_block(values, partner, a[round], b[round], here);
                    continue;
                }
                if (j) take_logarithms(values, here);
                multiply_block(values, partner, a[round], b[round], here);
            }
            memcpy(out + n * size + start, values, here * sizeof *values);
        }
    }
}
