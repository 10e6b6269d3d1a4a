"""What wakes us, and what is read then: kernel readings become events here."""
