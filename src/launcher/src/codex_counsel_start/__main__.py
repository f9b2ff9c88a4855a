from codex_counsel_start import main

main()
