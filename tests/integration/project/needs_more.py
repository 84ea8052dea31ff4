import a_package_that_nobody_has


def build():
    return a_package_that_nobody_has.Net()
