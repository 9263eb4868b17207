// What Android and LiteRT have of what the programs call, so that they compile here; nothing of it runs.

package android.graphics
abstract class ColorSpace { enum class Named { SRGB } companion object { @JvmStatic fun get(named: Named): ColorSpace = TODO() } }
class Bitmap private constructor() {
    enum class Config { ARGB_8888, RGBA_F16 }
    val width: Int get() = TODO()
    val height: Int get() = TODO()
    val config: Config? get() = TODO()
    fun setColorSpace(space: ColorSpace) {}
    fun getPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {}
    fun setPixels(pixels: IntArray, offset: Int, stride: Int, x: Int, y: Int, width: Int, height: Int) {}
    companion object { @JvmStatic fun createBitmap(width: Int, height: Int, config: Config): Bitmap = TODO() }
}
class Size { val width: Int get() = TODO(); val height: Int get() = TODO() }
class ImageDecoder private constructor() {
    class Source
    class ImageInfo { val size: Size get() = TODO(); val mimeType: String get() = TODO() }
    fun interface OnHeaderDecodedListener { fun onHeaderDecoded(decoder: ImageDecoder, info: ImageInfo, source: Source) }
    fun setTargetSampleSize(size: Int) {}
    var allocator: Int = 0
    var isUnpremultipliedRequired: Boolean = false
    companion object {
        const val ALLOCATOR_SOFTWARE = 1
        @JvmStatic fun createSource(buffer: java.nio.ByteBuffer): Source = TODO()
        @JvmStatic fun decodeBitmap(source: Source, listener: OnHeaderDecodedListener): Bitmap = TODO()
    }
}
