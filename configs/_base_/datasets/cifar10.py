# CIFAR-10 by MMPretrain's own dataset, which downloads it to data/cifar10, or, where CIFAR10_FOLDER names one, from a
# folder of images: train/<class>/*.png and test/<class>/*.png (or .jpg).
_base_ = 'cifar.py'

folder = '{{$CIFAR10_FOLDER:download}}'
cifar = (
    dict(type='mmgradaug.ImageFolder', data_root=folder)
    if folder != 'download'
    else dict(type='CIFAR10', data_root='data/cifar10')
)
data_preprocessor = dict(num_classes=10)
train_dataloader = dict(dataset=cifar)
val_dataloader = dict(dataset=cifar)
test_dataloader = dict(dataset=cifar)
