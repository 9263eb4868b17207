// Classifies an image file with an exported TFLite model on Android 9 (API 28) and later.
//
//     implementation("com.google.ai.edge.litert:litert:1.4.2")     // app/build.gradle.kts
//
// (1.x, or 2.1 and later, which have org.tensorflow.lite.Interpreter; 2.0 has not.)
// Put model.tflite and its sidecar model.tflite.json into the app's assets; then, off the main thread:
//
//     Classifier(context, "model.tflite").use { println(it.classify(file)) }

package nasvitedge

import android.content.Context
import android.graphics.Bitmap
import android.graphics.ColorSpace
import android.graphics.ImageDecoder
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.abs
import kotlin.math.exp
import kotlin.math.floor
import kotlin.math.max
import kotlin.math.min
import org.json.JSONArray
import org.json.JSONObject
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

data class Crop(val width: Int, val height: Int, val left: Int, val top: Int)

/** Shorter side to `side`, halves rounded up, then the middle square. */
fun cropGeometry(width: Int, height: Int, side: Int): Crop {
    val shorter = min(width, height)
    val resizedWidth = (width * side + shorter / 2) / shorter
    val resizedHeight = (height * side + shorter / 2) / shorter
    val left = (resizedWidth - side) / 2
    val top = (resizedHeight - side) / 2
    return Crop(resizedWidth, resizedHeight, left, top)
}

/** The bicubic kernel with a = -0.5, Pillow's. */
fun cubic(distance: Double): Double {
    val x = abs(distance)
    return when {
        x < 1 -> (1.5 * x - 2.5) * x * x + 1
        x < 2 -> ((-0.5 * x + 2.5) * x - 4) * x + 2
        else -> 0.0
    }
}

/** What one output pixel is made of: weights for the inputs from `start` on. */
class Taps(val start: Int, val weights: DoubleArray) {
    val end get() = start + weights.size

    inline fun sum(value: (Int) -> Int): Int {
        var total = 0.5 // rounds
        for (i in weights.indices) total += weights[i] * value(start + i)
        return floor(total).toInt().coerceIn(0, 255)
    }
}

/** Outputs `first` until `first + count` of `size` pixels resized to `resized`; shrinking widens the kernel. */
fun bicubic(size: Int, resized: Int, first: Int, count: Int): List<Taps> {
    val scale = size.toDouble() / resized
    val width = max(scale, 1.0)
    return List(count) {
        val centre = (first + it + 0.5) * scale
        val start = max(0, (centre - 2 * width + 0.5).toInt())
        val end = min(size, (centre + 2 * width + 0.5).toInt())
        val weights = DoubleArray(end - start) { i -> cubic((start + i + 0.5 - centre) / width) }
        val sum = weights.sum()
        Taps(start, DoubleArray(weights.size) { i -> weights[i] / sum })
    }
}

/** ARGB pixels to the middle square's RGB bytes, side * side * 3 of them. */
fun resizeAndCrop(argb: IntArray, width: Int, height: Int, side: Int): IntArray {
    val crop = cropGeometry(width, height, side)
    val columns = bicubic(width, crop.width, crop.left, side)
    val rows = bicubic(height, crop.height, crop.top, side)
    val narrow = IntArray(height * side * 3)
    for (y in rows.first().start until rows.last().end) {
        for (i in 0 until side * 3) {
            val shift = 16 - 8 * (i % 3)
            narrow[y * side * 3 + i] = columns[i / 3].sum { x -> (argb[y * width + x] shr shift) and 255 }
        }
    }
    return IntArray(side * side * 3) { i ->
        rows[i / (side * 3)].sum { y -> narrow[y * side * 3 + i % (side * 3)] }
    }
}

/** A byte of a channel to [0, 1], minus mean, over std. */
fun normalise(value: Int, mean: Float, std: Float): Float = (value / 255f - mean) / std

fun quantise(value: Float, scale: Float, zeroPoint: Int): Byte =
    (floor(value / scale + 0.5f).toInt() + zeroPoint).coerceIn(-128, 127).toByte()

fun dequantise(value: Byte, scale: Float, zeroPoint: Int): Float = (value - zeroPoint) * scale

/** Logits to probabilities; without the largest first, exp could overflow. */
fun softmax(logits: FloatArray): FloatArray {
    val largest = logits.max()
    val shares = FloatArray(logits.size) { exp(logits[it] - largest) }
    val sum = shares.sum()
    return FloatArray(logits.size) { shares[it] / sum }
}

/** The classes of the five largest; the sort is stable, so the lower index is first where equal. */
fun topFive(probabilities: FloatArray): List<Int> =
    probabilities.indices.sortedByDescending { probabilities[it] }.take(5)

data class Outcome(val classes: List<Pair<String, Float>>, val milliseconds: Double) {
    override fun toString(): String =
        classes.joinToString("\n") { (label, share) -> "%5.1f%%  %s".format(100 * share, label) } +
            "\n%.2f ms".format(milliseconds)
}

/** A model with its sidecar JSON; `model` is a direct or a mapped buffer. */
class Classifier(model: ByteBuffer, sidecar: String, threads: Int = 4) : Closeable {
    private val interpreter = Interpreter(model, Interpreter.Options().setNumThreads(threads))
    private val metadata = JSONObject(sidecar).getJSONObject("metadata")
    private val side = metadata.getString("resolution").toInt()
    private val mean = numbers("mean")
    private val std = numbers("std")
    private val labels = list("labels").let { names -> List(names.length()) { names.getString(it) } }

    constructor(context: Context, asset: String) : this(
        context.assets.open(asset).use { direct(it.readBytes()) },
        context.assets.open("$asset.json").use { it.readBytes().decodeToString() },
    )

    fun classify(file: File): Outcome =
        classify(
            ImageDecoder.decodeBitmap(ImageDecoder.createSource(file)) { decoder, _, _ ->
                decoder.allocator = ImageDecoder.ALLOCATOR_SOFTWARE // pixels of others cannot be read
                decoder.setTargetColorSpace(ColorSpace.get(ColorSpace.Named.SRGB))
            },
        )

    /** The five likeliest classes, and how long the second run took: the first one packs weights. */
    fun classify(image: Bitmap): Outcome {
        val argb = IntArray(image.width * image.height)
        image.getPixels(argb, 0, image.width, 0, 0, image.width, image.height)
        val input = filled(resizeAndCrop(argb, image.width, image.height, side))
        val output = ByteBuffer.allocateDirect(interpreter.getOutputTensor(0).numBytes())
        output.order(ByteOrder.nativeOrder())
        interpreter.run(input.rewind(), output.rewind())
        val start = System.nanoTime()
        interpreter.run(input.rewind(), output.rewind())
        val milliseconds = (System.nanoTime() - start) / 1e6
        val shares = softmax(logits(output))
        return Outcome(topFive(shares).map { labels[it] to shares[it] }, milliseconds)
    }

    override fun close() = interpreter.close()

    /** The input tensor's bytes: every image of the batch is the same one. */
    private fun filled(rgb: IntArray): ByteBuffer {
        val tensor = interpreter.getInputTensor(0)
        val floats = isFloat(tensor)
        val (scale, zeroPoint) = tensor.quantizationParams().let { it.scale to it.zeroPoint }
        val buffer = ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder())
        repeat(tensor.shape()[0]) {
            for (i in rgb.indices) {
                val value = normalise(rgb[i], mean[i % 3], std[i % 3])
                if (floats) buffer.putFloat(value) else buffer.put(quantise(value, scale, zeroPoint))
            }
        }
        return buffer
    }

    private fun logits(buffer: ByteBuffer): FloatArray {
        val tensor = interpreter.getOutputTensor(0)
        val floats = isFloat(tensor)
        val (scale, zeroPoint) = tensor.quantizationParams().let { it.scale to it.zeroPoint }
        return FloatArray(labels.size) {
            if (floats) buffer.getFloat(4 * it) else dequantise(buffer.get(it), scale, zeroPoint)
        }
    }

    private fun isFloat(tensor: Tensor): Boolean {
        val type = tensor.dataType()
        require(type == DataType.FLOAT32 || type == DataType.INT8) { "tensors of $type are not supported" }
        return type == DataType.FLOAT32
    }

    /** Metadata are text; lists are JSON in it. */
    private fun list(key: String): JSONArray = JSONArray(metadata.getString(key))

    private fun numbers(key: String): FloatArray =
        list(key).let { FloatArray(it.length()) { i -> it.getDouble(i).toFloat() } }

    companion object {
        private fun direct(bytes: ByteArray): ByteBuffer =
            ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes)
    }
}
