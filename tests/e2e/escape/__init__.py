"""What a hostile model tries, what a hostile machine or repository has prepared for it, and what shows that it worked.

`scene` is the world that is attacked, `attempts` is what the model tries in every run,
`user_traps` and `repository_traps` prepare the world for it, and `table` writes all of
that into SECURITY.md.
"""
