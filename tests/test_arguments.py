import pytest

from mmgradaug.arguments import refuse_unknown_keys


def takes(one, two=2):
    pass


def takes_anything(one, **rest):
    pass


def test_known_keys_pass():
    refuse_unknown_keys('it', dict(one=1), takes)
    refuse_unknown_keys('it', dict(one=1, other=2), takes_anything)
    refuse_unknown_keys('it', [], ['a'])


@pytest.mark.parametrize('known', [takes, ['one', 'two']])
def test_unknown_keys_are_named_beside_the_known_ones(known):
    with pytest.raises(TypeError) as error:
        refuse_unknown_keys('the thing', dict(one=1, thre=3, for_=4), known)
    assert (
        str(error.value) == "the thing has unknown keys ['for_', 'thre']; it takes ['one', 'two']"
    )
