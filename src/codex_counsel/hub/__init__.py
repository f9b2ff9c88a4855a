"""The services that have pull requests: GitHub and GitLab, through git and their own programs `gh` and `glab`."""
