// Classifies an image file with an exported TFLite model on Android 9 (API 28) and later.
//
//     implementation("com.google.ai.edge.litert:litert:1.4.2")     // app/build.gradle.kts
//
// (1.x, or 2.1 and later, which have org.tensorflow.lite.Interpreter; 2.0 has not.)
// Add PrepareImage.kt too, and put model.tflite and its sidecar model.tflite.json into the app's assets; then, off the main thread:
//
//     Classifier(context, "model.tflite").use { println(it.classify(file)) }

package nasvitedge

import android.content.Context
import android.graphics.Bitmap
import java.io.Closeable
import java.io.File
import java.nio.ByteBuffer
import java.nio.ByteOrder
import kotlin.math.exp
import kotlin.math.floor
import org.json.JSONArray
import org.json.JSONObject
import org.tensorflow.lite.DataType
import org.tensorflow.lite.Interpreter
import org.tensorflow.lite.Tensor

/** A value as a tensor of 8 bits holds it, halves rounded up. */
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
    private val preparation = Preparation.of(metadata)
    private val labels = JSONArray(metadata.getString("labels")).let { names -> List(names.length()) { names.getString(it) } }

    constructor(context: Context, asset: String) : this(
        context.assets.open(asset).use { direct(it.readBytes()) },
        context.assets.open("$asset.json").use { it.readBytes().decodeToString() },
    )

    fun classify(file: File): Outcome = classify(readImage(file, preparation))

    /** The five likeliest classes, and how long the second run took: the first one packs weights. */
    fun classify(image: Bitmap): Outcome {
        val input = filled(prepared(BitmapSource(image), preparation))
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
    private fun filled(values: FloatArray): ByteBuffer {
        val tensor = interpreter.getInputTensor(0)
        val floats = isFloat(tensor)
        val (scale, zeroPoint) = tensor.quantizationParams().let { it.scale to it.zeroPoint }
        val buffer = ByteBuffer.allocateDirect(tensor.numBytes()).order(ByteOrder.nativeOrder())
        repeat(tensor.shape()[0]) {
            for (value in values) {
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

    companion object {
        private fun direct(bytes: ByteArray): ByteBuffer =
            ByteBuffer.allocateDirect(bytes.size).order(ByteOrder.nativeOrder()).put(bytes)
    }
}
