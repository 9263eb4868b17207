// What Android and LiteRT have of what the programs call, so that they compile here; nothing of it runs.

package android.content
class Assets { fun open(name: String): java.io.InputStream = java.io.FileInputStream(name) }
abstract class Context { val assets = Assets() }
