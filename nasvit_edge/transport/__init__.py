"""How devices are reached: a runner over a child process, ssh, adb, or HTTP that the device pulls from."""
