// What Android has of what the programs call.

package android.os
object Build { object VERSION { @JvmField val SDK_INT = 34 } }
