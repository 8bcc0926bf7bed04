"""Measures of trained models that OpenMMLab lacks; pure functions of arrays and tensors."""
