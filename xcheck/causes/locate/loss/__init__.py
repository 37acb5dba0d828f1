"""What the losses of both sides tell where they are asked again."""
