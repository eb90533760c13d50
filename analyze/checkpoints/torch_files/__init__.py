"""Files of torch.save, read as data: nothing in them runs."""
