# One static program under its many names.
# makes: busybox:latest
FROM scratch
ADD rootfs.tar /
CMD ["sh"]
