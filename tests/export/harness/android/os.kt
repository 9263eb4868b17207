// What Android and LiteRT have of what the programs call, so that they compile here; nothing of it runs.

package android.os
object Build { object VERSION { @JvmField val SDK_INT = 34 } }
