"""The process that owns a device: scheduler and runner."""
