"""The networks, in torch. Shapes and names are those of the UNet-328 family, so that its weights load strictly."""
