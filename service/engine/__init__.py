"""The engine process: owns a device, schedules requests and runs batches."""
