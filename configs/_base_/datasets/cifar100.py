# CIFAR-100 by MMPretrain's own dataset, which downloads it to data/cifar100, or, where CIFAR100_FOLDER names one, from
# a folder of images: train/<class>/*.png and test/<class>/*.png (or .jpg).
_base_ = 'cifar.py'

folder = '{{$CIFAR100_FOLDER:download}}'
cifar = (
    dict(type='mmgradaug.ImageFolder', data_root=folder)
    if folder != 'download'
    else dict(type='CIFAR100', data_root='data/cifar100')
)
data_preprocessor = dict(num_classes=100)
train_dataloader = dict(dataset=cifar)
val_dataloader = dict(dataset=cifar)
test_dataloader = dict(dataset=cifar)
