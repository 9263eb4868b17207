// What Android and LiteRT have of what the programs call, so that they compile here; nothing of it runs.

package org.tensorflow.lite
enum class DataType { FLOAT32, INT32, INT8 }
class Tensor { class QuantizationParams { val scale: Float get() = TODO(); val zeroPoint: Int get() = TODO() }
    fun numBytes(): Int = TODO(); fun shape(): IntArray = TODO(); fun dataType(): DataType = TODO(); fun quantizationParams(): QuantizationParams = TODO() }
class Interpreter(model: java.nio.ByteBuffer, options: Options) : AutoCloseable {
    class Options { fun setNumThreads(threads: Int): Options = this }
    fun getInputTensor(i: Int): Tensor = TODO(); fun getOutputTensor(i: Int): Tensor = TODO()
    fun run(input: Any, output: Any) {}
    override fun close() {}
}
