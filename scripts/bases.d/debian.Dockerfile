# Debian without extras, made as the official image is: one root file system and a shell.
# makes: debian:12
FROM scratch
ADD rootfs.tar /
CMD ["bash"]
